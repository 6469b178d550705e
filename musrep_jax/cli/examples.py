"""Examples of every command, for its help and docs/command_line.md."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "build": (
        "musrep build synthetic_cultures/makam",
        "musrep build audio_folder:recordings --sample-rate 22050",
    ),
    "compare": (
        "musrep compare runs/a runs/b",
        "musrep compare runs/transfer/exports/NAME runs/transfer --per-label",
        "musrep compare runs/transfer --published",
    ),
    "demo": ("musrep demo --open",),
    "doctor": (
        "musrep doctor recordings",
        "musrep doctor lyra --no-quarantine --json",
    ),
    "download": (
        "musrep download lyra --check",
        "musrep download magnatagatune --delete-archives",
    ),
    "embed": (
        "musrep embed recordings --store library",
        "musrep embed runs/own/exports/NAME recordings --store library",
    ),
    "explain": (
        "musrep explain song.mp3 --png song.png",
        "musrep explain runs/own/exports/NAME a.wav b.wav --html page.html",
        "musrep explain runs/own/exports/NAME recordings --faithfulness",
    ),
    "export": (
        "musrep export runs/own/exports/NAME --format onnx",
        "musrep export runs/own/exports/NAME --push OWNER/NAME --private",
    ),
    "import-weights": (
        "musrep import-weights --model fcn --weights best_model.pth \\",
        "    --name magnatagatune --license MIT --labels tags.txt --out models/fcn",
        "musrep import-weights --weights MERT-v1-95M --name mert --out models/mert \\",
        "    --license CC-BY-NC-4.0",
    ),
    "merge": (
        "musrep merge models/a models/b --out models/mean",
        "musrep merge models/a models/b --base models/start --out models/sum",
    ),
    "models": (
        "musrep models",
        "musrep models musicnn",
        "musrep models --pretrained",
        "musrep models runs/own/exports/best",
    ),
    "pull": (
        "musrep pull musicnn-msd",
        "musrep pull culturemert-95m --accept-license",
    ),
    "report": (
        "musrep report runs/transfer --open",
        "musrep report runs/transfer --explain --disagreements 4",
    ),
    "robustness": (
        "musrep robustness runs/own/exports/best recordings",
        "musrep robustness linear:pretrained:musicnn-msd recordings \\",
        "    --deformations published,pitch:-6..6",
    ),
    "search": ('musrep search library "ney, -voice" -k 5',),
    "serve": ("musrep serve runs/own/exports/NAME --store library --open",),
    "similar": ("musrep similar library song.mp3 -k 5",),
    "splits": (
        "musrep splits lyra",
        "musrep splits magnatagatune --no-audio --out splits",
    ),
    "suggest": (
        "musrep suggest library --label ney",
        "musrep suggest library --label ney --model models/ney --labeled examples \\",
        "    --out more.tsv",
    ),
    "tag": (
        "musrep tag song.mp3",
        "musrep tag runs/own/exports/NAME song.mp3 --over-time",
        "musrep tag runs/own/exports/NAME recordings --out tags.tsv",
    ),
    "teach": (
        "musrep teach --examples examples --out models/ney",
        "musrep teach musicnn-msd --examples examples --examples more.tsv \\",
        "    --store library --out models/ney",
    ),
    "train": (
        "musrep train tagging --config.data.path=recordings --workdir=runs/own",
        "musrep train transfer:smoke --workdir=/tmp/smoke",
    ),
}
"""Name of a command -> lines of a shell."""
