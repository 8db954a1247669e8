"""A small comparison as a program, for tests that do violence to it: `python small_study.py STORE SEEDS`.

It prints the key of each run when it is kept, and at the end `done`.
"""

import sys

from surefoot import compare
from surefoot.engine import Limits, Local
from surefoot.runs import Store

STEPS = 40


def planned(seeds):
    return compare.plan(["digits-nmf"], ["sgd"], ["greedy", "cosine"], seeds=seeds, steps=STEPS)


def main():
    with Store(sys.argv[1]) as store:
        # A storm of kills is no fault of the trials.
        for trial, _ in compare.execute(planned(int(sys.argv[2])), store, engine=Local(2), limits=Limits(retries=50)):
            print(trial.key, flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
