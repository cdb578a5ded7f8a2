"""Cron schedules: rules, the book of them in stream JOBS, and what a host does when one fires."""
