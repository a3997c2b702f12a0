"""What each verb does, in Python terms: opens galleries, composes stages."""
