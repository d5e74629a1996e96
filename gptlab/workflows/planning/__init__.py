"""Parts of a plan: samples, other devices, and the page that is printed."""
