"""Small runs on synthetic text, for the benchmarks that train."""
import json
import subprocess

# What a configuration begins with.
TEXT = """
[[domain]]
name = "copy"
train = "text/copy.train.txt"
valid = "text/copy.valid.txt"
[tokenizer]
vocab_size = 300
"""


def make_text(moiety, folder, megabytes):
    subprocess.run([moiety, "corpus", "--synthetic", "copy", "text", "--synthetic-mb", str(megabytes)], cwd=folder, check=True, capture_output=True)


def steps_of(run):
    """The steps' lines of a run's metrics so far."""
    steps = []
    try:
        with open(f"{run}/metrics.jsonl") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:
                    break  # is being written
                if "loss" in line:
                    steps.append(line)
    except FileNotFoundError:
        pass
    return steps
