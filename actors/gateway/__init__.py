"""The services of subjects api.*, and the sweep of requests that nobody takes."""
