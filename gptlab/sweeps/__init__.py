"""Many runs from one command: their jobs and their leaderboard."""
