"""One row for each attack, what became of it here and in Transformers, into $ATTACKS_REPORT: for `./dev bench attacks`."""
import json, os

# What each class is, and why Transformers cannot be tried with it.
CLASSES = {
    "S1": ("weights that are programs", None), "S2": ("configs that run code", None), "S3": ("keys that are objects elsewhere", None),
    "S4": ("JSON bombs", None), "S5": ("indexes that lead out", None), "S6": ("indexes that lie", None),
    "S7": ("references that lead out", None), "S8": ("code of others without a commit", None),
    "S9": ("branches that move while loading", None), "S10": ("what only looks like a commit", None),
    "S11": ("hubs that lie about bytes", None), "S12": ("caches that were written to", None),
    "S13": ("swaps between check and use", None), "S14": ("links", None), "S15": ("bombs and endless answers", None),
    "S16": ("weights that lie about themselves", None), "S17": ("texts that steer a terminal", None),
    "S18": ("names that look like others", None), "S19": ("sources that attack the compiler", "it compiles nothing"),
    "S20": ("libraries that run before they are called", "it loads no library of a model's"),
    "S21": ("what code does once it runs", None), "S22": ("trust that was given to other bytes", None),
    "S23": ("secrets and lost updates in what is published", None), "S24": ("tokens for strangers", None),
    "S25": ("what opens when something fails", None),
    "S26": ("headers and libraries in others' place", "Python imports whatever is installed"),
}


def record(attack, case, ours, theirs=None):
    if report := os.environ.get("ATTACKS_REPORT"):
        theirs = theirs or f"does not apply: {CLASSES[attack][1] or 'not this case'}"
        with open(report, "a") as file:
            file.write(json.dumps({"class": attack, "case": case, "ours": ours, "transformers": theirs}) + "\n")
