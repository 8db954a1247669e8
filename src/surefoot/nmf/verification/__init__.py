"""Checks of the stability bounds on random problems: that they hold where they are proved, and fail where they must."""
