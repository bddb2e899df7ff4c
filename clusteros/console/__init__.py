"""The console: people's door in the browser. Views ask services and rows, templates show; no rule of the cluster lives here."""
