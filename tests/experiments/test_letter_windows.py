"""Windows of joined letters, and the training clips of a model."""

import numpy as np
import pytest

from mmpt.embedding.embedder import SignCLIP
from mmpt.experiments.letter_windows import LETTERS, LetterModels
from mmpt.pose.span import Span
from mmpt.processors.table_file import read_table
from mmpt.spotting import WindowGrid
from mmpt.utils.arrays import unit_rows
from mmpt.utils.errors import UserError
from scripts.join_letters import main as join_letters
from tests.letters import save_letter_model


@pytest.fixture(scope="module")
def model(tmp_path_factory, data_dir) -> SignCLIP:
    return SignCLIP.from_pretrained(save_letter_model(tmp_path_factory.mktemp("letters") / "model", data_dir))


def test_windows_and_letters_are_embedded_as_clips_of_their_own(model, tmp_path):
    assert join_letters(["--words", "2", "--split", "valid", "--out", str(tmp_path)]) == 0
    models = LetterModels([model, model])
    prompts = unit_rows(model.embed_text([f"Fingerspell the letter {c}." for c in LETTERS]).astype(float))
    np.testing.assert_array_equal(models.vectors[1], prompts)
    rows = read_table(tmp_path / "table.csv").rows
    for recording in models.read(tmp_path, WindowGrid((0.8, 1.6), 0.4)):
        own = [row for row in rows if row.id.startswith(recording.id)]
        assert [LETTERS[letter] for letter in recording.letters] == [row.text for row in own]
        assert "".join(row.text for row in own) == recording.text and recording.language == recording.id[:3]
        path, processor = own[0].path, model.video_processor
        windows = [Span(start, stop, "frames") for start, stop in recording.spans.tolist()]
        for clips, spans in ((recording.windows, windows), (recording.truth, [row.span for row in own])):
            features = [processor(path, span=span) for span in spans]
            np.testing.assert_allclose(clips.features, [one.mean(axis=0) for one in features], atol=1e-5)
            vectors = unit_rows(model.embed_video_features(features).astype(float))
            for embedded in clips.embedded:
                np.testing.assert_allclose(embedded.cosines, vectors @ prompts.T, atol=1e-5)
                np.testing.assert_allclose(embedded.mean, vectors.mean(axis=0), atol=1e-5)
        lengths = np.ptp(recording.spans[recording.of_length([0.8])], axis=1)
        assert len(lengths) and (lengths == 20).all()


def test_training_clips_are_those_of_the_training_languages(model):
    features, prompts = LetterModels([model]).training_clips()
    assert features.shape == (205, 173) and len(set(prompts)) == 26


def test_models_of_another_corpus_or_of_prompts_with_the_language_are_refused(model, tmp_path, data_dir):
    named = save_letter_model(tmp_path / "a", data_dir, "dataset.prompt='{language}: {letter}'")
    with pytest.raises(UserError, match="name the sign language"):
        LetterModels([SignCLIP.from_pretrained(named)])
    other = save_letter_model(tmp_path / "b", data_dir, "dataset.prompt='{letter}'")
    with pytest.raises(UserError, match="other features or prompts"):
        LetterModels([model, SignCLIP.from_pretrained(other)])
