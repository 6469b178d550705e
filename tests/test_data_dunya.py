"""Dunya: what its recordings say, and a client against a server on this machine."""

import hashlib
import json
import pathlib
import time

import pytest
from local_server import LocalServer, ServedFile

from musrep_jax.data.corpora.dunya import (
    LABEL_FIELDS,
    SPLIT_LISTS,
    DunyaError,
    extract_seconds,
    extract_sources,
    labels_of,
    read_recording,
    split_files,
)
from musrep_jax.data.download import dunya_api
from musrep_jax.data.download.dunya_api import (
    DunyaClient,
    look,
    make_dunya_http_client,
    read_refused,
)
from musrep_jax.data.download.partial_files import DownloadError

TOKEN = "abc123"
IDS = [f"{n:08d}-0000-4000-8000-000000000000" for n in range(5)]
EMPTY = "00000000-1111-4000-8000-000000000000"

MAKAM = {
    "mbid": IDS[0],
    "length": 187000,
    "makamlist": [{"name": "Uşşak"}, {"name": "Hicaz"}, {"name": "Uşşak"}],
    "usullist": [{"name": "Düyek"}],
    "performers": [
        {"mbid": "p1", "instrument": {"name": "Ney"}},
        {"mbid": "p2", "instrument": {"name": "Kanun"}},
    ],
    "releases": [{"mbid": "r1"}, {"mbid": "r2"}],
    "artists": [{"mbid": "a1"}],
}
CARNATIC = {
    "mbid": IDS[1],
    "raaga": [{"name": "tōḍi", "common_name": "thodi"}],
    "taala": [{"name": "ādi", "common_name": "adi"}],
    "form": [{"name": "Kriti"}],
    "artists": [
        {"artist": {"mbid": "p1"}, "lead": False, "instrument": {"name": "Violin"}},
        {"artist": {"mbid": "p2"}, "lead": True, "instrument": {"name": "Voice"}},
    ],
    "concert": [{"mbid": "c1"}],
    "album_artists": [{"mbid": "a1"}],
}
HINDUSTANI = {
    "mbid": IDS[2],
    "raags": [{"name": "Bhairavī", "common_name": "Bhairabi"}],
    "taals": [{"name": "Tīntāl", "common_name": "Teentaal"}],
    "forms": [{"name": "Ṭhumrī", "common_name": "Thumri"}],
    "artists": [{"artist": {"mbid": "p1"}, "lead": False, "instrument": {"name": "Tabla"}}],
    "release": [{"mbid": "r1"}],
    "album_artists": [{"mbid": "a1"}],
}


def test_the_labels_are_those_of_the_published_code():
    assert labels_of("makam", MAKAM) == (
        "instrument--Kanun", "instrument--Ney", "makam--Hicaz", "makam--Uşşak", "usul--Düyek",
    )  # fmt: skip
    assert labels_of("carnatic", CARNATIC) == (
        "form--Kriti", "instrument--Violin", "instrument--Voice", "raga--thodi", "tala--adi",
    )  # fmt: skip
    assert labels_of("hindustani", HINDUSTANI) == (
        "form--Thumri", "instrument--Tabla", "raga--Bhairabi", "tala--Teentaal",
    )  # fmt: skip


@pytest.mark.parametrize("tradition", LABEL_FIELDS)
def test_missing_and_null_fields_give_no_label(tradition):
    assert labels_of(tradition, {"mbid": EMPTY}) == ()
    for odd in (None, "text", 3, [None], ["text"], [{}], [{"name": None, "common_name": ""}],
                [{"instrument": None}], [{"instrument": {"name": None}}]):  # fmt: skip
        recording = {field: odd for _, field, _ in LABEL_FIELDS[tradition]}
        assert labels_of(tradition, recording) == ()
        assert extract_sources(tradition, recording) == {}


def test_one_odd_entry_does_not_lose_the_others():
    performers = [{"instrument": None}, {"instrument": {"name": " Oud "}}, None]
    recording = {"makamlist": None, "performers": performers, "usullist": {"name": "Aksak"}}
    assert labels_of("makam", recording) == ("instrument--Oud", "usul--Aksak")


def test_albums_and_artists():
    assert extract_sources("makam", MAKAM) == {"album": "r1", "artist": "a1"}
    assert extract_sources("carnatic", CARNATIC) == {"album": "c1", "artist": "p2"}
    assert extract_sources("hindustani", HINDUSTANI) == {"album": "r1", "artist": "a1"}
    assert extract_sources("hindustani", {"release": {"mbid": "r9"}}) == {"album": "r9"}


def test_length():
    assert extract_seconds(MAKAM) == 187.0
    assert extract_seconds({"length": None}) is None
    assert extract_seconds({}) is None


def test_reading_what_was_kept(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(DunyaError, match="is not there"):
        read_recording(path)
    for text, message in (("{", "holds no JSON"), ("[]", "holds no recording")):
        path.write_text(text)
        with pytest.raises(DunyaError, match=message):
            read_recording(path)
    path.write_text(json.dumps(MAKAM), encoding="utf-8")
    assert read_recording(path) == MAKAM


def test_the_published_lists_are_pinned(shared_dir):
    for tradition in LABEL_FIELDS:
        files = split_files(tradition)
        assert [file.path for file in files] == list(SPLIT_LISTS.values())
        for file in files:
            path = shared_dir / "splits/ccml" / tradition / pathlib.Path(file.path).name
            content = path.read_bytes()
            assert len(content) == file.size
            assert hashlib.sha256(content).hexdigest() == file.sha256


@pytest.fixture
def dunya(monkeypatch):
    """A server with five makam recordings on pages of two."""
    monkeypatch.setenv("no_proxy", "*")
    server = LocalServer()
    needs = f"Token {TOKEN}"

    def serve(path, value):
        server.table[path] = ServedFile(json.dumps(value).encode(), "application/json", needs=needs)

    recordings = [{**MAKAM, "mbid": mbid, "title": f"no. {mbid[7]} ğ"} for mbid in IDS]
    api = "/api/makam/recording"
    pages = [f"{api}?detail=1", f"{api}?detail=1&page=2", f"{api}?detail=1&page=3"]
    for index, page in enumerate(pages):
        # As behind a proxy, the links name another host; the token must not go there.
        following = f"http://elsewhere.invalid{pages[index + 1]}" if index < 2 else None
        found = recordings[2 * index : 2 * index + 2]
        serve(page, {"count": 5, "next": following, "results": found})
    serve(api, {"count": 5, "next": None, "results": []})
    for recording in recordings:
        serve(f"{api}/{recording['mbid']}", recording)
        audio = ServedFile(recording["mbid"].encode() * 100, "audio/mpeg", needs=needs)
        server.table[f"/document/by-id/{recording['mbid']}/mp3"] = audio
    yield server
    server.close()


def make_client(server, folder, token=TOKEN, said=None):
    web = make_dunya_http_client(token, pause_seconds=0.0, backoff_seconds=0.001, num_attempts=3)
    say = said.append if said is not None else None
    return DunyaClient("makam", folder, web, host=server.url, say=say)


def audio_path(mbid):
    return f"/document/by-id/{mbid}/mp3"


def test_everything_comes_once(dunya, tmp_path):
    state = make_client(dunya, tmp_path).fetch(None)
    assert state.wanted == state.described == state.heard == tuple(IDS)
    assert state.missing == ()
    assert read_recording(tmp_path / f"recordings/{IDS[3]}.json")["title"] == "no. 3 ğ"
    assert (tmp_path / f"audio/{IDS[3]}.mp3").read_bytes() == IDS[3].encode() * 100
    assert {headers["Authorization"] for _, headers in dunya.requests} == {f"Token {TOKEN}"}
    paths = [path for path, _ in dunya.requests]
    assert len(paths) == len(set(paths)) == 1 + 3 + 5
    make_client(dunya, tmp_path).fetch(IDS)
    assert len(dunya.requests) == 9  # nothing was left to ask


def test_only_what_is_wanted(dunya, tmp_path, monkeypatch):
    state = make_client(dunya, tmp_path).fetch(IDS[:2])
    assert state.heard == tuple(IDS[:2])
    assert not dunya.asked("/api/makam/recording?detail=1")  # few are asked for one by one
    monkeypatch.setattr(dunya_api, "_MIN_IDS_FOR_LISTING", 2)
    state = make_client(dunya, tmp_path).fetch(IDS)
    assert len(dunya.asked("/api/makam/recording?detail=1&page=3")) == 1
    assert state.heard == tuple(IDS)


def test_a_broken_listing_goes_on_at_its_page(dunya, tmp_path):
    second = dunya.table["/api/makam/recording?detail=1&page=2"]
    second.statuses = [(503, {})] * 3
    with pytest.raises(DownloadError, match="503") as caught:
        make_client(dunya, tmp_path).fetch(None)
    assert TOKEN not in str(caught.value)
    assert len(look(tmp_path, None).described) == 2
    make_client(dunya, tmp_path).fetch(None)
    assert len(dunya.asked("/api/makam/recording?detail=1")) == 1
    assert len(look(tmp_path, None).heard) == 5


def test_when_the_listing_fails_recordings_are_asked_for_singly(dunya, tmp_path, monkeypatch):
    monkeypatch.setattr(dunya_api, "_MIN_IDS_FOR_LISTING", 2)
    dunya.table["/api/makam/recording?detail=1"].statuses = [(500, {})] * 3
    said = []
    assert make_client(dunya, tmp_path, said=said).fetch(IDS).heard == tuple(IDS)
    assert "one by one" in said[0]


def test_broken_audio_is_continued(dunya, tmp_path):
    dunya.table[audio_path(IDS[0])].break_after = [1000]
    make_client(dunya, tmp_path).fetch(IDS[:1])
    first, second = dunya.asked(audio_path(IDS[0]))
    assert "Range" not in first
    assert second["Range"] == "bytes=1000-"
    assert (tmp_path / f"audio/{IDS[0]}.mp3").read_bytes() == IDS[0].encode() * 100


def test_what_is_refused_is_written_down_and_not_asked_again(dunya, tmp_path):
    del dunya.table[audio_path(IDS[1])]
    dunya.table[audio_path(IDS[0])].needs = "another token"
    del dunya.table[f"/api/makam/recording/{IDS[4]}"]
    state = make_client(dunya, tmp_path).fetch(IDS)
    assert state.heard == (IDS[2], IDS[3])
    assert state.missing == ()
    refused = read_refused(tmp_path)
    assert {mbid: row[0] for mbid, row in refused.items()} == {
        IDS[0]: "401", IDS[1]: "404", IDS[4]: "404",
    }  # fmt: skip
    assert "mp3" in refused[IDS[1]][1]
    assert refused[IDS[1]][2].endswith("Z")
    num_requests = len(dunya.requests)
    make_client(dunya, tmp_path).fetch(IDS)
    assert len(dunya.requests) == num_requests
    dunya.table[audio_path(IDS[0])].needs = None
    state = make_client(dunya, tmp_path).fetch(IDS, retry_refused=True)
    assert state.heard == (IDS[0], IDS[2], IDS[3])
    assert set(read_refused(tmp_path)) == {IDS[1], IDS[4]}


def test_a_server_that_fails_is_not_a_refusal(dunya, tmp_path):
    for mbid in IDS[:3]:
        dunya.table[audio_path(mbid)].statuses = [(500, {})] * 3
    with pytest.raises(DownloadError, match="500"):
        make_client(dunya, tmp_path).fetch(IDS)
    assert read_refused(tmp_path) == {}
    assert make_client(dunya, tmp_path).fetch(IDS).heard == tuple(IDS)


def test_no_token():
    for token in (None, "", "  "):
        with pytest.raises(DunyaError, match=r"DUNYA_TOKEN is not set.*upf\.edu"):
            make_dunya_http_client(token)
    with pytest.raises(DunyaError, match="holds more than a token") as caught:
        make_dunya_http_client("abc\ndef")
    assert "abc" not in str(caught.value)


def test_a_wrong_token(dunya, tmp_path):
    with pytest.raises(DunyaError, match="does not accept the token in DUNYA_TOKEN") as caught:
        make_client(dunya, tmp_path, token="wr0ng").fetch(IDS)
    assert "wr0ng" not in str(caught.value)
    assert len(dunya.requests) == 1
    assert read_refused(tmp_path) == {}


def test_a_token_without_audio(dunya, tmp_path, monkeypatch):
    monkeypatch.setattr(dunya_api, "_MAX_CONSECUTIVE_REFUSALS", 3)
    for mbid in IDS:
        dunya.table[audio_path(mbid)].needs = "another token"
    with pytest.raises(DunyaError, match=r"may not fetch audio.*access on your profile page"):
        make_client(dunya, tmp_path).fetch(IDS)
    assert len([path for path, _ in dunya.requests if path.endswith("mp3")]) == 3
    assert read_refused(tmp_path) == {}
    assert look(tmp_path, IDS).described == tuple(IDS)


def test_a_login_page_is_no_audio(dunya, tmp_path):
    dunya.table[audio_path(IDS[0])].content_type = "text/html; charset=utf-8"
    make_client(dunya, tmp_path).fetch(IDS)
    assert read_refused(tmp_path)[IDS[0]][0] == "page"
    assert not list((tmp_path / "audio").glob("*.part*"))


def test_the_token_does_not_follow_to_another_host(dunya, tmp_path):
    other = LocalServer()
    try:
        other.table["/a.mp3"] = ServedFile(b"x" * 10)
        path = audio_path(IDS[0])
        dunya.table[path].statuses = [(302, {"Location": f"{other.url}/a.mp3"})]
        dunya.table[audio_path(IDS[1])].statuses = [(302, {"Location": audio_path(IDS[2])})]
        make_client(dunya, tmp_path).fetch(IDS[:2])
        assert "Authorization" not in other.requests[0][1]
        assert dunya.asked(audio_path(IDS[2]))[0]["Authorization"] == f"Token {TOKEN}"
    finally:
        other.close()


def test_politeness(dunya, tmp_path):
    web = make_dunya_http_client(TOKEN, pause_seconds=0.1)
    start = time.monotonic()
    DunyaClient("makam", tmp_path, web, host=dunya.url).fetch(IDS[:2])
    assert time.monotonic() - start >= 0.4  # five requests


def test_ids_are_checked(tmp_path):
    with pytest.raises(DunyaError, match="is not the id of a recording"):
        look(tmp_path, ["../../etc/passwd"])


def test_a_damaged_list_of_refusals(tmp_path):
    (tmp_path / "refused.tsv").write_text("mbid\tstatus\n")
    with pytest.raises(DunyaError, match="is damaged; delete it"):
        read_refused(tmp_path)
