"""Arrangement: from the plan of a track to its dry mix."""

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.instruments import (
    SOUNDS,
    Sound,
    decaying_tone,
    render_line,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.melody import (
    CONTROL_RATE,
    Notes,
    free_melody,
    metric_melody,
    pitch_line,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.performers import Performer
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.plans import Part, TrackPlan
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.rhythm import (
    KITS,
    render_stroke,
    stroke_times,
)
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.tunings import frequency_hz


def octave_near(tonic_hz: float, centre_hz: float) -> float:
    """Returns the octave of `tonic_hz` that lies nearest to `centre_hz`, in Hz."""
    return tonic_hz * 2.0 ** np.round(np.log2(centre_hz / tonic_hz))


class Arranger:
    """Renders the parts of one track.

    Attributes:
        plan: of the track.
        performer: who plays.
        seconds: length.
        sample_rate: in Hz.
        melody: the notes that the leading part plays and that others follow.
    """

    def __init__(
        self,
        plan: TrackPlan,
        performer: Performer,
        rng: np.random.Generator,
        *,
        seconds: float,
        sample_rate: int,
    ) -> None:
        self.plan = plan
        self.performer = performer
        self.seconds = seconds
        self.sample_rate = sample_rate
        self.num_samples = round(seconds * sample_rate)
        self.tonic_hz = float(frequency_hz(plan.tonic_hz, performer.tuning_cents))
        self.rng = rng
        if plan.metre is None:
            self.melody = free_melody(plan.mode, rng, seconds=seconds, density=plan.density)
        else:
            self.melody = metric_melody(
                plan.mode,
                rng,
                seconds=seconds,
                pulse_seconds=plan.pulse_seconds,
                cycle=plan.metre.num_pulses,
                density=plan.density,
                accents=np.array(plan.metre.accents),
            )

    def render(self, part: Part) -> np.ndarray:
        """Returns the audio of one part, float32, shape (num_samples,), before its gain."""
        if part.role == "drums":
            return self._drums(part)
        sound = SOUNDS[part.sound]
        if part.role == "melody":
            return self._line(sound, self.melody)
        if part.role == "heterophony":
            return self._line(sound, self._follow(self.melody))
        if part.role == "drone":
            return self._drone(sound)
        if part.role == "tanpura":
            return self._tanpura(sound)
        if part.role == "pad":
            return self._pad(sound)
        return self._struck_chords(sound, is_bass=part.role == "bass")

    def _add(self, mix: np.ndarray, onset: float, tone: np.ndarray, gain: float) -> None:
        begin = max(0, round(onset * self.sample_rate))
        end = min(len(mix), begin + len(tone))
        if end > begin:
            mix[begin:end] += np.float32(gain) * tone[: end - begin]

    def _jitter(self) -> float:
        return float(self.rng.normal(0.0, self.performer.timing_seconds))

    def _line(self, sound: Sound, notes: Notes) -> np.ndarray:
        """Plays the melody, its pitch bent by the tradition's ornaments."""
        cents = pitch_line(
            notes,
            self.plan.mode,
            self.plan.ornaments,
            self.rng,
            seconds=self.seconds,
            vibrato_rate_hz=self.performer.vibrato_rate_hz,
            vibrato_cents=self.performer.vibrato_cents * (0.4 if sound.decay_seconds else 1.0),
        )
        tonic = octave_near(self.tonic_hz, sound.centre_hz)
        return render_line(
            sound,
            self.performer,
            notes,
            np.asarray(frequency_hz(tonic, cents)),
            self.rng,
            num_samples=self.num_samples,
            sample_rate=self.sample_rate,
        )

    def _follow(self, notes: Notes) -> Notes:
        """Returns the same line as another player would play it: later, plainer, with gaps."""
        count = len(notes)
        keep = self.rng.random(count) > 0.2
        keep[0] = True
        delay = np.abs(self.rng.normal(0.03, 0.03, count)).clip(0.0, 0.1)
        onsets = np.minimum(notes.onsets + delay, self.seconds - 0.02)
        onsets = np.maximum.accumulate(onsets)
        durations = np.minimum(notes.durations, self.seconds - onsets)
        return Notes(onsets, durations, notes.degrees, 0.9 * notes.velocities).keep(keep)

    def _held(self, sound: Sound, cents: np.ndarray, onsets: np.ndarray) -> np.ndarray:
        """Plays long notes one after the other."""
        ends = np.append(onsets[1:], self.seconds)
        velocities = np.full(len(onsets), 0.8)
        notes = Notes(onsets, ends - onsets, np.zeros(len(onsets), np.int64), velocities)
        num_frames = round(self.seconds * CONTROL_RATE)
        frames = np.arange(num_frames) / CONTROL_RATE
        held = cents[np.searchsorted(onsets, frames, side="right").clip(1) - 1]
        tonic = octave_near(self.tonic_hz, sound.centre_hz)
        return render_line(
            sound,
            self.performer,
            notes,
            np.asarray(frequency_hz(tonic, held)),
            self.rng,
            num_samples=self.num_samples,
            sample_rate=self.sample_rate,
        )

    def _drone(self, sound: Sound) -> np.ndarray:
        """Holds the tonic, with the fifth or the lower octave softly beside it."""
        onsets = np.arange(0.0, self.seconds, 4.0)
        second = self.rng.choice([-1200.0, 702.0])
        audio = self._held(sound, np.zeros(len(onsets)), onsets)
        return audio + 0.5 * self._held(sound, np.full(len(onsets), second), onsets)

    def _tanpura(self, sound: Sound) -> np.ndarray:
        """Plucks the four strings of a drone in turn: fifth (or fourth), tonic twice, octave."""
        mix = np.zeros(self.num_samples, np.float32)
        mode = self.plan.mode
        has_fifth = any(abs(cents - 702.0) < 15.0 for cents in mode.cents)
        low = octave_near(self.tonic_hz, sound.centre_hz)
        strings = [-1200.0 + (702.0 if has_fifth else 498.0), 0.0, 0.0, -1200.0]
        tones = [
            decaying_tone(
                sound,
                self.performer,
                float(frequency_hz(low, cents)),
                self.rng,
                seconds=3.0,
                sample_rate=self.sample_rate,
                num_partials=40,
            )
            for cents in strings
        ]
        step = float(self.rng.uniform(0.5, 0.9))
        onset, number = -float(self.rng.uniform(0.0, 2.0)), 0
        while onset < self.seconds:
            tone = tones[number % 4]
            if onset < 0:
                tone, place = tone[round(-onset * self.sample_rate) :], 0.0
            else:
                place = onset
            self._add(mix, place, tone, 0.8 if number % 4 else 0.6)
            # The last string rings a little longer before the round begins again.
            onset += step * (1.6 if number % 4 == 3 else 1.0) + self._jitter()
            number += 1
        return mix

    def _chord_onsets(self) -> list[tuple[float, int, bool]]:
        """Returns (onset, chord number, whether it opens the cycle) on every accent."""
        metre = self.plan.metre
        cycle = metre.num_pulses * self.plan.pulse_seconds
        found = []
        for number in range(int(np.ceil(self.seconds / cycle))):
            for accent in metre.accents:
                onset = number * cycle + accent * self.plan.pulse_seconds
                if onset < self.seconds - 0.05:
                    found.append((onset, number % len(self.plan.chords), accent == 0))
        return found

    def _struck_chords(self, sound: Sound, *, is_bass: bool) -> np.ndarray:
        """Strums (or, as bass, plays the root of) the chord of each cycle on its accents."""
        mix = np.zeros(self.num_samples, np.float32)
        tonic = octave_near(self.tonic_hz, sound.centre_hz)
        tones: dict[float, np.ndarray] = {}
        spread = float(self.rng.uniform(0.004, 0.018))
        for onset, chord, opens in self._chord_onsets():
            cents = self.plan.chords[chord]
            chosen = (cents[0],) if is_bass else (cents[0] - 1200.0, *cents)
            for string, pitch in enumerate(chosen):
                if pitch not in tones:
                    tones[pitch] = decaying_tone(
                        sound,
                        self.performer,
                        float(frequency_hz(tonic, pitch)),
                        self.rng,
                        seconds=min(1.6, 2.5 * sound.decay_seconds * self.performer.decay),
                        sample_rate=self.sample_rate,
                    )
                gain = (0.9 if opens else 0.6) * self.rng.uniform(0.85, 1.1)
                self._add(mix, onset + string * spread + self._jitter(), tones[pitch], gain)
        return mix

    def _pad(self, sound: Sound) -> np.ndarray:
        """Holds the chord of each cycle, two voices of it."""
        cycle = self.plan.metre.num_pulses * self.plan.pulse_seconds
        onsets = np.arange(0.0, self.seconds, cycle)
        chords = [self.plan.chords[i % len(self.plan.chords)] for i in range(len(onsets))]
        audio = np.zeros(self.num_samples, np.float32)
        for voice in (0, 1):
            audio += self._held(sound, np.array([chord[voice] for chord in chords]), onsets)
        return audio

    def _drums(self, part: Part) -> np.ndarray:
        """Plays the metre's strokes on the part's drums."""
        mix = np.zeros(self.num_samples, np.float32)
        kit = KITS[part.sound]
        high = octave_near(self.tonic_hz, 280.0)
        sounds = {
            name: render_stroke(
                stroke, self.performer, high, self.rng, sample_rate=self.sample_rate
            )
            for name, stroke in kit.items()
        }
        strokes = stroke_times(
            self.plan.metre, pulse_seconds=self.plan.pulse_seconds, seconds=self.seconds
        )
        for onset, name, accented in strokes:
            if not accented and self.rng.random() < 0.06:
                continue
            gain = (1.0 if accented else 0.65) * self.rng.uniform(0.8, 1.1)
            self._add(mix, onset + self._jitter(), sounds[name], gain)
        return mix


def render_plan(
    plan: TrackPlan,
    performer: Performer,
    rng: np.random.Generator,
    *,
    seconds: float,
    sample_rate: int,
) -> np.ndarray:
    """Returns the dry mix of a track.

    Args:
        plan: the facts of the track.
        performer: who plays.
        rng: the track's own source of randomness.
        seconds: length.
        sample_rate: in Hz.

    Returns:
        float32 audio of any level, shape (round(seconds * sample_rate),).
    """
    arranger = Arranger(plan, performer, rng, seconds=seconds, sample_rate=sample_rate)
    mix = np.zeros(arranger.num_samples, np.float32)
    for part in plan.parts:
        balance = 10.0 ** (rng.uniform(-3.0, 3.0) / 20.0)
        mix += np.float32(part.gain * balance) * arranger.render(part)
    return mix
