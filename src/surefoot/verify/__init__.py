"""The stability bounds checked on thousands of random problems: `surefoot verify-nmf`."""
