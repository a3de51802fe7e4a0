"""What happened, as events, and the state that is a fold over them. Pure."""
