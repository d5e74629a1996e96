"""Many runs from one command: jobs and leaderboard."""
