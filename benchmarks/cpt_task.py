"""A task of four choices for lm-eval, cut out of a text that no run was trained on.

    python benchmarks/cpt_task.py classics.valid.jsonl.xz tasks --num 120

Each question is a passage of a document, and which of four stretches of the same document comes
next. What chance gives is 0.25.
"""

import argparse
import json
import lzma
import random
from pathlib import Path

import yaml

NAME = "what_comes_next"
_PASSAGE, _STRETCH, _CHOICES = 40, 8, 4
"""Words of a question, words of an answer, answers of a question."""


def questions(texts: list[str], num: int, seed: int) -> list[dict[str, object]]:
    """Questions from long documents, one of a document at most, the same for the same seed.

    Args:
        texts: the documents.
        num: how many questions at most.
        seed: of the order of documents, the places and the order of the choices.

    Returns:
        Rows with ``context``, ``choices`` and ``label``, the index of the right one.
    """
    draw = random.Random(seed)
    wanted = _PASSAGE + (_CHOICES + 1) * _STRETCH
    long = [words for text in texts if len(words := text.split()) >= 2 * wanted]
    rows = []
    for words in draw.sample(long, min(num, len(long))):
        start = draw.randrange(len(words) - wanted)
        rest = [start + _PASSAGE + k * _STRETCH for k in range(_CHOICES + 1)]
        right, others = rest[0], draw.sample(rest[1:], _CHOICES - 1)
        places = draw.sample([right, *others], _CHOICES)
        rows.append(
            {
                "context": " ".join(words[start : start + _PASSAGE]),
                "choices": [" ".join(words[place : place + _STRETCH]) for place in places],
                "label": places.index(right),
            }
        )
    return rows


def write_task(rows: list[dict[str, object]], folder: Path) -> None:
    """Write the rows and the YAML file by which lm-eval finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{NAME}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    accuracy = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
    config = {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": " ",
        "metric_list": [accuracy],
    }
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def main() -> None:
    """Make the task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help=".jsonl.xz, each line with a text")
    parser.add_argument("folder", type=Path, help="where the task is written")
    parser.add_argument("--num", type=int, default=120, help="questions at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with lzma.open(args.text, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    rows = questions(texts, args.num, args.seed)
    write_task(rows, args.folder)
    print(f"{len(rows)} questions in {args.folder}, task {NAME}")


if __name__ == "__main__":
    main()
