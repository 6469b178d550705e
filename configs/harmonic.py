"""Learn harmonic filters for music tagging, keyword spotting or sound-event tagging.

Source: Won, Chun, Nieto, Serra, "Data-driven harmonic filters for audio representation learning",
ICASSP 2020; public code minzwon/data-driven-harmonic-filters.

    python main.py --config=configs/harmonic.py
    python main.py --config=configs/harmonic.py:smoke
    python main.py --config=configs/harmonic.py:keywords --config.data.path=FOLDER
    python main.py --config=configs/harmonic.py:keywords --config.data.name=speech_commands
    python main.py --config=configs/harmonic.py:sound_events --config.data.path=FOLDER
    python main.py --config=configs/harmonic.py:sound_events \
      --config.data.name=dcase2017_task4/events-harmonic-pcm16

`figures/filters/` shows the filters before and after, `results.md` has them as a table.
`--config.model.filter_mode=direct` learns center frequencies, alpha and beta too, every band at the
same rate in cents (`full` at a rate that grows along the bands), `fixed` nothing;
`--config.study="model.filter_mode=fixed|only_Q|direct"` compares them.
`--config.model.num_harmonics=1` to 10.

Other models on the same tasks, with their own lengths and spectrograms (table 3.2 of Won's thesis):

    python main.py --config=configs/harmonic.py:keywords --config.data.path=FOLDER \
      --config.model.name=harmonic_cnn,attention_rnn,musicnn,sample_cnn,sample_cnn_se

`--config.model.residual=false` is `sample_cnn_se` without residual connections. The thesis reports
on Speech Commands .9390 for an Attention RNN, .9253 for the sample-level CNN, .9395 with squeeze
and excitation, .9482 with residual connections too.

- Music: binary cross-entropy, five seconds, 16 chunks per track. Reported on MagnaTagATune: ROC-AUC
  .9141, PR-AUC .4646.
- Keywords: one word per recording, cross-entropy, one second at n_fft 256. Reported on Speech
  Commands: accuracy .9639. A FOLDER needs exactly one label per recording; where there are more,
  `--config.data.labels=zero,one,two` takes these.
- Sound events: binary cross-entropy, three seconds, F1 averaged over recordings at threshold 0.1,
  which also selects the model. Reported on DCASE 2017 task 4: F1 .5468, and .5824 at the best
  threshold. Thresholds per label are fitted on the validation split here.

The default is compact and trains in minutes on two CPU cores. `:music_published`,
`:keywords_published` and `:sound_events_published` take the published size and training: Adam at
1e-4, SGD at 1e-3, 1e-4 and 1e-5 from epochs 60, 80 and 100 to 200. Differences of the published
code: it selects by F1 only from epoch 12 on, pads short recordings at a random place instead of the
end, and validates with 16 chunks.
"""

from ml_collections import ConfigDict, config_dict
from musrep_jax.configs import common

from musrep_jax.models.harmonic_cnn import TASK_SETTINGS

TASKS = ("music", "keywords", "sound_events")
PUBLISHED = "_published"


def get_config(arg: str = "") -> ConfigDict:
    """Returns the config.

    Args:
        arg: a task, "music" when empty, with "_published" for the published training; or "smoke"
            for a few steps of music tagging.
    """
    task = arg.removesuffix(PUBLISHED) if arg not in ("", "smoke") else "music"
    if task not in TASKS:
        raise ValueError(
            f"configs/harmonic.py knows the arguments smoke, {', '.join(TASKS)}, and these with "
            f"{PUBLISHED}, not {arg!r}."
        )
    config = common.get_base("tagging")
    config.model.name = "harmonic_cnn"
    config.data.name = "synthetic_cultures/makam" if task == "music" else "audio_folder"
    config.data.path = config_dict.placeholder(str)
    config.num_train_tracks = "all"
    common.embedded_training(config)
    config.for_model.harmonic_cnn = ConfigDict({"model": dict(TASK_SETTINGS[task])})
    if task == "keywords":
        config.train.update(loss="cross_entropy", select_by="loss")
    else:
        config.evaluation.update(num_chunks=16, validation_num_chunks=4)
    if task == "sound_events":
        config.evaluation.threshold = 0.1
        config.train.select_by = "f1_samples"
    if arg.endswith(PUBLISHED):
        use_published_training(config)
    elif arg == "smoke":
        common.smoke(config)
        config.evaluation.update(num_chunks=2, validation_num_chunks=2)
    return config


def use_published_training(config: ConfigDict) -> None:
    """Writes the published size, optimizer and epochs into the config."""
    config.model.size = "full"
    config.optimizer.name = "adam_sgd"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.weight_decay = 1e-4
    config.optimizer.switch_at = (60, 80, 100)
    config.optimizer.sgd_learning_rates = (1e-3, 1e-4, 1e-5)
    config.train.update(num_steps=None, evaluate_every_steps=None, batch_size=16)
    config.train.update(num_epochs=200, evaluate_every_epochs=1)
    config.data.cache_megabytes = 0
