"""Pictures: workflows and jobs as drawings, and drawings as Mermaid, DOT and SVG. All of it is pure."""
