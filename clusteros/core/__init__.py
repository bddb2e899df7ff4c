"""What every app of the control side stands on and that knows none of them: state graphs, the event log,
problems, dispatch after commit, live events."""
