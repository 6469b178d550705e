"""Labels of published taggers, in the order of their output units."""

MAGNATAGATUNE = tuple(
    """
guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat,
violin, vocal, synth, female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud,
quiet, flute, woman, male vocal, no vocal, pop, soft, sitar, solo, man, classic, choir, voice,
new age, dance, male voice, female vocal, beats, harp, cello, no voice, weird, country, metal,
female voice, choral
""".strip()
    .replace("\n", " ")
    .split(", ")
)
"""By frequency; metal stands before female voice, unlike in a list that is widely copied."""

MILLION_SONG = tuple(
    """
rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz,
beautiful, metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica,
80s, folk, 90s, chill, instrumental, punk, oldies, blues, hard rock, ambient, acoustic,
experimental, female vocalist, guitar, Hip-Hop, 70s, party, country, easy listening, sexy, catchy,
funk, electro, heavy metal, Progressive rock, 60s, rnb, indie pop, sad, House, happy
""".strip()
    .replace("\n", " ")
    .split(", ")
)
"""Of Last.fm, by frequency."""

_JAMENDO = {
    "genre": "alternative ambient atmospheric chillout classical dance downtempo easylistening "
    "electronic experimental folk funk hiphop house indie instrumentalpop jazz lounge metal newage "
    "orchestral pop popfolk poprock reggae rock soundtrack techno trance triphop world",
    "instrument": "acousticguitar bass computer drummachine drums electricguitar electricpiano "
    "guitar keyboard piano strings synthesizer violin voice",
    "mood/theme": "emotional energetic film happy relaxing",
}
MTG_JAMENDO = tuple(
    f"{kind}---{word}" for kind, words in _JAMENDO.items() for word in words.split()
)
"""Alphabetical, as the public training code sorts them."""
