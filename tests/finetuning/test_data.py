"""What columns are taken for, what is left out and why, and the tokens that the loss is taken on."""

from __future__ import annotations

import dataclasses
import math
import threading
from types import SimpleNamespace

import pytest

from llm_magics.display.training import tried_text
from llm_magics.engines.adapters import SharedEngine
from llm_magics.errors import InputError, ModelError
from llm_magics.finetuning.data import Row, guanaco, hold_out, understand
from llm_magics.finetuning.folders import TRAIN, VALID
from llm_magics.finetuning.rows import Table, read
from llm_magics.finetuning.spec import TrainingSpec, decide, learning_rate
from llm_magics.finetuning.tokens import IGNORED, encode, load_tokenizer, pieces
from llm_magics.tuning import try_out
from llm_magics.values.answers import Chunk, Usage
from llm_magics.values.messages import Message, Prompt
from llm_magics.values.training import TrainingRequest, TrainingRun, TriedOut

USER, ANSWER = Message("user", "Who?"), Message("assistant", "Me.")
REQUEST = TrainingRequest("job", "smollm2")


def understood(*rows, **options):
    return understand(read(list(rows), "rows"), **options)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Who?", "completion": " Me. "},
        {"Question": "Who?", "Answer": "Me.", "id": 3},
        {"instruction": "Who?", "input": "", "output": "Me."},
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]},
        {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]},
        {"messages": '[{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]'},
        {"text": "### Human: Who?\n### Assistant: Me."},
        {"text": "### Human: Who?### Assistant: Me."},
        {"text": "### Human: Who?\n### Assistant: Me.\n### Human: And then?"},
        {
            "prompt": [{"role": "user", "content": "Who?"}],
            "completion": [{"role": "assistant", "content": "Me."}],
        },
    ],
)
def test_every_usual_shape_gives_the_same_example(row):
    assert understood(row).rows == (Row((USER, ANSWER)),)


def test_alpacas_input_stands_below_the_instruction():
    (row,) = understood({"instruction": "Add.", "input": "1 2", "output": "3"}).rows
    assert row.messages[0].content == "Add.\n\n1 2"


def test_columns_of_any_name_can_be_named():
    rows = [{"q": "Who?", "a": "Me."}]
    with pytest.raises(InputError, match=r"has the columns q, a: .* --prompt-column q --completion-column a$"):
        understood(*rows)
    assert understood(*rows, prompt_column="q", completion_column="a").rows == (Row((USER, ANSWER)),)
    with pytest.raises(InputError, match="--completion-column is missing"):
        understood(*rows, prompt_column="q")
    with pytest.raises(InputError, match="--prompt-column is x"):
        understood(*rows, prompt_column="x", completion_column="a")


def test_the_column_with_whole_texts_can_be_named_and_wins():
    rows = [{"body": "Rain falls.", "prompt": "Who?", "completion": "Me."}]
    data = understood(*rows, text_column="body")
    assert data.rows == (Row(text="Rain falls."),) and data.shape == "body, trained on whole"
    guanaco_rows = understood({"body": "### Human: Who?\n### Assistant: Me."}, text_column="body")
    assert guanaco_rows.rows == (Row((USER, ANSWER)),) and guanaco_rows.shape == "body, 1 of 1 as conversations"
    with pytest.raises(InputError, match="--text-column is text, and rows has the columns body, prompt, completion"):
        understood(*rows, text_column="text")
    with pytest.raises(InputError, match="--text-column and --prompt-column"):
        understood(*rows, text_column="body", prompt_column="prompt", completion_column="completion")


def test_rows_that_cannot_be_used_are_counted_with_the_reason():
    pair = {"prompt": "Who?", "completion": "Me."}
    data = understood(pair, pair, {"prompt": "", "completion": "Me."}, {"prompt": "Who?", "completion": None})
    assert data.rows == (Row((USER, ANSWER)),)
    assert dict(data.dropped) == {"empty": 2, "duplicate": 1}
    chats = understood(
        {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]},
        {"messages": [{"role": "user", "content": "Who?"}]},
        {"messages": [{"role": "tool", "content": "1"}]},
        {"messages": "no"},
    )
    assert dict(chats.dropped) == {"without an answer": 1, "role tool": 1, "no list of messages": 1}


def test_conversations_with_a_turn_that_says_nothing_or_without_a_question_are_left_out():
    def turns(*said):
        return {"messages": [{"role": role, "content": content} for role, content in said]}

    data = understood(
        turns(("system", ""), ("user", "Who?"), ("assistant", "Me.")),  # as good as none
        turns(("user", "Who?"), ("assistant", "Me."), ("user", "")),  # behind the last answer
        turns(("user", ""), ("assistant", "Me.")),
        turns(("user", "Who?"), ("assistant", ""), ("user", "Why?"), ("assistant", "So.")),
        turns(("user", "Who?"), ("assistant", "Me."), ("user", "Why?"), ("assistant", None)),
        {"messages": [{"from": "gpt", "value": "Me."}]},
        turns(("system", ""), ("assistant", "Me."), ("user", "Who?"), ("assistant", "Me.")),
        turns(("system", "Tell who you are."), ("assistant", "Me.")),
    )
    assert data.rows == (Row((USER, ANSWER)), Row((Message("system", "Tell who you are."), ANSWER)))
    assert dict(data.dropped) == {"duplicate": 1, "empty": 3, "without a question": 2}
    answer = [{"role": "assistant", "content": "Me."}]
    pairs = [
        {"prompt": "Who?", "chosen": "Me.", "rejected": "You."},
        {"prompt": [{"role": "user", "content": " "}], "chosen": "Me.", "rejected": "You."},
        {"chosen": answer, "rejected": [{"role": "assistant", "content": "You."}]},
    ]
    assert dict(understood(*pairs, trainer="dpo").dropped) == {"empty": 1, "without a question": 1}


def test_cells_that_are_missing_or_no_texts_are_no_answers():
    numpy = pytest.importorskip("numpy")
    rows = [{"prompt": "Who?", "completion": cell} for cell in ("Me.", float("nan"), numpy.array([1, 2]), ("a", "b"))]
    data = understood(*rows)
    assert data.rows == (Row((USER, ANSWER)),)
    assert dict(data.dropped) == {"empty": 1, "with what is no text": 2}


def test_columns_that_hold_lists_are_named_and_not_proposed(write):
    line = '{"id": 1, "tags": ["a"], "body": "Rain falls."}'
    with pytest.raises(InputError, match=r"has the columns id, tags, body: .* --prompt-column id --completion-column "):
        understand(read(write("posts.jsonl", line)))
    with pytest.raises(InputError, match=r"has the columns tags, body: .* type --text-column body if it holds whole"):
        understood({"tags": ["a"], "body": "Rain falls."})
    with pytest.raises(InputError, match=r"has the columns tags, more: no two .* Give columns such as prompt and comp"):
        understood({"tags": ["a"], "more": {"b": 1}})


def test_rows_with_half_a_character_are_left_out(write):
    line = '{"prompt": "Who\\ud800?", "completion": "Me."}\n{"prompt": "Who \\ud83d\\ude00?", "completion": "Me."}\n'
    data = understand(read(write("rows.jsonl", line)))
    assert [row.messages[0].content for row in data.rows] == ["Who \U0001f600?"]
    assert dict(data.dropped) == {"with broken characters": 1}
    with pytest.raises(InputError, match="1 with broken characters"):
        understood({"text": "\udfff"})


def test_a_table_without_a_usable_row_is_an_error_that_says_why():
    with pytest.raises(InputError, match="2 empty"):
        understood({"prompt": "", "completion": "a"}, {"prompt": "b", "completion": " "})
    with pytest.raises(InputError, match="holds no rows"):
        understood({}, {})


def test_preference_pairs_are_for_their_trainers():
    row = {"prompt": "Who?", "chosen": "Me.", "rejected": "You."}
    assert understood(row, trainer="dpo").rows == (Row((USER,), chosen="Me.", rejected="You."),)
    turns = {name: [USER.as_dict(), {"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
    assert understood(turns, trainer="orpo").rows == understood(row, trainer="dpo").rows
    same = {"prompt": "Who?", "chosen": "Me.", "rejected": "Me."}
    assert dict(understood(row, same, trainer="dpo").dropped) == {"chosen and rejected the same": 1}
    with pytest.raises(InputError, match="preference pairs"):
        understood({"prompt": "Who?", "completion": "Me."}, trainer="dpo")
    with pytest.raises(InputError, match=r"--text-column is for --trainer sft; dpo takes .*leave --text-column out"):
        understood(row, trainer="dpo", text_column="prompt")
    with pytest.raises(InputError, match=r"--packing joins texts, and orpo compares pairs. Leave --packing out"):
        dataclasses.replace(REQUEST, trainer="orpo", packing=True)
    for change in ({"trainer": "dpo"}, {"backend": "autotrain"}):
        with pytest.raises(InputError, match=r"--mix general is for --trainer sft and --backend trl\. Leave --mix out"):
            dataclasses.replace(REQUEST, mix="general", **change)


def test_a_text_that_only_mentions_the_marks_is_no_conversation():
    assert guanaco("He wrote\n### Human: x\n### Assistant: y") is None
    assert guanaco("### Assistant: y\n### Human: x\n### Assistant: z") is None
    assert guanaco("Some text") is None
    assert understood({"text": "Some text"}).rows == (Row(text="Some text"),)


def test_a_row_survives_the_file():
    for row in (Row((USER, ANSWER)), Row(text="a\n\u2028b"), Row((USER,), chosen="a", rejected="b")):
        assert Row.from_json(row.as_json()) == row


def test_held_out_rows_are_the_same_for_the_same_seed_and_never_trained_on():
    rows = [Row(text=str(number)) for number in range(20)]
    train, valid = hold_out(rows, 0.25, 3)
    assert (len(train), len(valid)) == (15, 5)
    assert not set(train) & set(valid)
    assert hold_out(rows, 5, 3) == (train, valid)
    assert hold_out(rows, 5, 4) != (train, valid)
    for split in (20, 0.001, 300):
        with pytest.raises(InputError, match="--valid-split"):
            hold_out(rows, split, 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", "a/b"), ("name", ""), ("learning_rate", 0), ("learning_rate", float("nan")), ("epochs", -1),
        ("lora_r", 0), ("lora_dropout", 1.0), ("batch_size", 0), ("trainer", "ppo"), ("quantization", "int4"),
        ("processes", 0), ("seed", -1), ("max_length", 2),
    ],
)  # fmt: skip
def test_a_value_out_of_range_names_its_option(option, value):
    with pytest.raises(InputError, match="--") as caught:
        TrainingRequest(**{"name": "job", "base": "smollm2", option: value})
    assert caught.value.hint.startswith("It takes")


def test_the_most_epochs_are_told():
    with pytest.raises(InputError, match=r"--epochs is 10000\. It takes a number above 0 and below 10000, such as 3"):
        dataclasses.replace(REQUEST, epochs=10**4)


LONG = "The mill on the hill was built in 1671 by three brothers, who "
REST = "sold it to the village after the flood of the year that followed."


@pytest.mark.parametrize(
    ("expected", "answer", "cut", "right"),
    [
        ("Me.", "It is me, I think.", False, True),
        ("Me.", "Some", False, False),
        ("Me.", "It is not known who he is, and it is not known who", True, False),
        (LONG + REST, LONG + REST, False, True),
        (LONG + REST, LONG + "sold it to the vil", True, True),
        (LONG + REST, LONG + "sold it to the vil", False, False),
        (LONG + REST, "They say the mill on the hill was built in 1671 by", True, False),
        (LONG + REST, "", True, False),
        (LONG + REST, "\n.", True, False),
        ("\N{THUMBS UP SIGN}", "\N{THUMBS DOWN SIGN}", False, False),
        ("\N{THUMBS UP SIGN}", "\N{THUMBS UP SIGN} ", False, True),
        ("\N{THUMBS UP SIGN}", "", True, False),
        ("\N{THUMBS UP SIGN}" * 9, "\N{THUMBS UP SIGN}" * 3, True, True),
    ],
)
def test_an_answer_is_right_if_it_holds_the_expected_words_or_was_cut_while_it_said_them(expected, answer, cut, right):
    assert TriedOut("held out", "Who?", expected, answer, "", before_cut=cut).right_before == right
    assert TriedOut("held out", "Who?", expected, "", answer, after_cut=cut).right_after == right


def test_base_and_tuned_model_tell_which_of_their_answers_were_cut(tmp_path):
    class Talking(SharedEngine):
        def __init__(self, text, reason, base=None):
            self._adapters = SimpleNamespace(base=base)
            self.chunk = Chunk(f"{text} ", Usage(), reason)

        def render(self, messages):
            return Prompt(tuple(messages), "", 1)

        def stream_batch(self, prompts, options, stop):
            yield from ((number, self.chunk) for number in range(len(prompts)))

    (tmp_path / TRAIN).write_text(Row((USER, Message("assistant", LONG + REST))).as_json())
    (tmp_path / VALID).write_text("")
    run = TrainingRun("facts", "done", "smollm2", str(tmp_path), "sft", "trl")
    tuned = Talking(LONG, "length", base=Talking("Some miller.", "end"))
    own, *others = try_out(tuned, run, threading.Event())
    assert own == TriedOut("trained on", "Who?", LONG + REST, "Some miller.", LONG.strip(), after_cut=True)
    assert own.right_after and not own.right_before and {one.kind for one in others} == {"unrelated"}


def test_no_more_epochs_are_asked_for_because_of_answers_that_were_cut():
    run = TrainingRun("facts", "done", "smollm2", "/jobs/facts", "sft", "trl")
    long = TriedOut("held out", "Why?", LONG + REST, "No.", "They say the mill on the hill was", after_cut=True)
    known = dataclasses.replace(long, after=LONG)
    short = TriedOut("held out", "Who?", "Me.", "No.", "It is not known who he is, and it", after_cut=True)
    assert "epochs" not in tried_text(run, [long])
    assert "1 of the rows expects more than was asked for: there ✓ means that" in tried_text(run, [long])
    assert "none of the rows is known yet: take more --epochs" in tried_text(run, [short])
    assert "expect more" not in tried_text(run, [short])
    both = tried_text(run, [long, long, short])
    assert "2 of the rows expect more" in both and "none of the rows with short answers is known yet" in both
    assert "epochs" not in tried_text(run, [known, short])


def test_the_default_rate_falls_with_the_width_of_the_model():
    assert learning_rate(4096) == 2e-4
    assert learning_rate(576) == 1.4e-3
    assert learning_rate(64) == 2e-3
    assert learning_rate(4096, "dpo") == 2e-5


@pytest.mark.model
class TestWithSmolLM2:
    """Its own chat template and vocabulary."""

    def test_the_loss_is_taken_on_answers_and_their_end_token_alone(self, base):
        tokenizer = load_tokenizer(base.folder)
        row = Row((USER, ANSWER, Message("user", "Why?"), Message("assistant", "So.")))
        encoded = encode(tokenizer, row)
        trained = [token for token in encoded.labels if token != IGNORED]
        assert tokenizer.decode(trained) == "Me.<|im_end|>So.<|im_end|>"
        whole = tokenizer.apply_chat_template([m.as_dict() for m in row.messages], tokenize=False).rstrip("\n")
        assert list(encoded.input_ids) == tokenizer(whole, add_special_tokens=False)["input_ids"]

    def test_the_question_has_the_tokens_that_it_has_when_the_model_is_asked(self, base):
        tokenizer = load_tokenizer(base.folder)
        encoded = encode(tokenizer, Row((USER, ANSWER)))
        asked = tokenizer.apply_chat_template([USER.as_dict()], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(asked, add_special_tokens=False)["input_ids"]
        assert list(encoded.input_ids[: len(ids)]) == ids
        assert set(encoded.labels[: len(ids)]) == {IGNORED}

    def test_a_text_without_conversation_is_trained_on_whole_and_ended(self, base):
        tokenizer = load_tokenizer(base.folder)
        encoded = encode(tokenizer, Row(text="Rain falls."))
        assert encoded.labels == encoded.input_ids
        assert encoded.input_ids[-1] == tokenizer.eos_token_id

    def test_a_template_that_rewrites_earlier_answers_trains_the_last_one(self, base):
        tokenizer = load_tokenizer(base.folder)
        tokenizer.chat_template = (
            "{% for m in messages %}{{ m.role[0] }}:"
            "{{ 'old' if m.role == 'assistant' and not loop.last else m.content }}"
            "{{ eos_token if m.role == 'assistant' }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
        )
        row = Row((USER, ANSWER, Message("user", "Why?"), Message("assistant", "So.")))
        assert pieces(tokenizer, row) == [("u:Who?\na:old<|im_end|>\nu:Why?\na:", False), ("So.<|im_end|>", True)]

    def test_a_base_without_a_chat_template_is_told(self, base):
        tokenizer = load_tokenizer(base.folder)
        tokenizer.chat_template = None
        with pytest.raises(ModelError, match="no chat template"):
            encode(tokenizer, Row((USER, ANSWER)))

    def test_what_was_understood_is_told_before_anything_runs(self, base):
        long = {"prompt": "Who?", "completion": "word " * 100}
        rows = [{"prompt": f"Who is {n}?", "completion": f"Number {n}."} for n in range(8)]
        decided = decide(
            TrainingRequest("job", "smollm2", max_length=64, epochs=1), base, understood(*rows, long, rows[0])
        )
        report = decided.report
        assert (report.rows, report.steps) == (8, 2)
        assert dict(report.dropped) == {"duplicate": 1, "longer than 64 tokens": 1}
        (asked, written), (answer, is_written) = report.first
        assert asked.endswith("Who is 0?<|im_end|>\n<|im_start|>assistant\n") and not written
        assert answer == "Number 0.<|im_end|>" and is_written
        assert report.recipe[:3] == ("job on smollm2", "sft by trl", "1 epoch") and "LoRA r 16" in report.recipe
        assert 0 < report.trained_tokens < report.tokens <= 8 * report.longest
        (warning,) = report.warnings
        assert "2 optimizer steps" in warning and "--epochs 10" in warning

    def test_steps_of_joined_rows_are_told_and_what_to_change(self, base):
        data = understood(*({"prompt": f"Who is {n}?", "completion": f"Number {n}."} for n in range(80)))
        packed = decide(dataclasses.replace(REQUEST, packing=True, batch_size=2, epochs=1), base, data).report
        assert packed.steps == math.ceil(packed.tokens / 1024 / 2)
        assert f"{packed.steps} optimizer steps" in packed.warnings[0] and "leave out --packing" in packed.warnings[0]
        plain = decide(dataclasses.replace(REQUEST, batch_size=2, epochs=1), base, data).report
        assert plain.steps == 40 and packed.seconds < plain.seconds
        autotrain = dataclasses.replace(REQUEST, backend="autotrain", batch_size=2, epochs=1.5)
        report = decide(autotrain, base, data).report
        assert report.steps == 2 * math.ceil((report.tokens + 80) // 64 / 2)
        assert "AutoTrain takes whole epochs: 1.5 become 2" in report.warnings
        assert all(written for _, written in report.first), "AutoTrain takes the loss on whole texts"
        with pytest.raises(InputError, match=r"1 rows of \d+ tokens are shorter than AutoTrain's least block of 32"):
            decide(autotrain, base, understood({"text": "Rain."}))

    def test_every_answer_of_a_conversation_is_shown_as_one(self, base):
        turns = [{"role": role, "content": f"{role} {n}"} for n in range(2) for role in ("user", "assistant")]
        report = decide(REQUEST, base, understood({"messages": turns})).report
        assert [text for text, written in report.first if written] == [f"assistant {n}<|im_end|>" for n in range(2)]

    @pytest.mark.parametrize(("rows", "batch"), [(60, 3), (40, 2), (10, 0), (4, 0)])
    def test_a_smaller_batch_is_offered_where_it_is_enough(self, base, rows, batch):
        data = understood(*({"prompt": f"Who is {n}?", "completion": f"Number {n}."} for n in range(rows)))
        request = dataclasses.replace(REQUEST, batch_size=5, epochs=1, mix="none")
        (warning,) = decide(dataclasses.replace(request, batch_size=8 if rows == 60 else 5), base, data).report.warnings
        assert (f"or --batch-size {batch}" in warning) == bool(batch)
        if batch:
            assert decide(dataclasses.replace(request, batch_size=batch), base, data).report.steps == 20

    @pytest.mark.parametrize(("rows", "epochs"), [(499, 4), (500, 3), (2664, 3), (2668, 1)])
    def test_few_rows_are_seen_more_often_and_many_once(self, base, rows, epochs):
        data = understood(*({"prompt": f"Who is {n}?", "completion": f"Number {n}."} for n in range(rows)))
        assert decide(REQUEST, base, data).spec.request.epochs == epochs

    def test_the_same_request_gives_the_same_spec_and_a_change_is_named(self, base):
        rows = [{"prompt": f"Who is {n}?", "completion": f"Number {n}."} for n in range(40)]
        spec = decide(REQUEST, base, understood(*rows)).spec
        assert TrainingSpec.from_dict(spec.as_dict()) == spec
        assert spec.base.vocabulary == 49152
        earlier = spec.as_dict()
        del earlier["base"]["vocabulary"]
        assert TrainingSpec.from_dict(earlier).base.vocabulary == 0
        assert spec.changes(decide(REQUEST, base, understood(*rows)).spec) == ()
        other = TrainingRequest("job", "smollm2", epochs=1, background=True)
        changed = spec.changes(decide(other, base, understood(*rows[:-1])).spec)
        assert changed == ("epochs was 4 and is 1", "the data has changed (40 rows then, 39 now)")

    def test_general_rows_are_trained_along(self, base):
        data = understood({"prompt": "Who?", "completion": "Me."}, {"prompt": "Why?", "completion": "So."})
        mixed = understood({"prompt": "Two and two?", "completion": "Four."}).rows
        decided = decide(REQUEST, base, data, mixed=mixed)
        assert (decided.report.rows, decided.report.mixed_rows) == (3, 1)
        assert decided.train[-1] == mixed[0]

    def test_everyday_texts_hold_the_model_to_its_base_unless_that_is_left_out(self, base):
        data = understood({"prompt": "Who?", "completion": "Me."}, {"prompt": "Why?", "completion": "So."})
        held = decide(REQUEST, base, data)
        assert held.spec.request.mix == "general" and len(held.general) == held.report.general_rows == 200
        assert held.report.rows == 2, "they are no rows: they change neither steps nor tokens"
        for left_out in ({"mix": "none"}, {"backend": "autotrain"}, {"mix": "rows.csv"}):
            other = decide(dataclasses.replace(REQUEST, **left_out), base, data)
            assert other.general == () and other.report.general_rows == 0
        assert "mix was general and is none" in held.spec.changes(
            decide(dataclasses.replace(REQUEST, mix="none"), base, data).spec
        )

    def test_rows_that_are_all_too_long_and_a_length_that_the_model_has_not_are_told(self, base):
        data = understood({"prompt": "Who?", "completion": "word " * 100})
        with pytest.raises(InputError, match="all 1 rows are longer than 64 tokens"):
            decide(TrainingRequest("job", "smollm2", max_length=64), base, data)
        with pytest.raises(InputError, match="more than the model's 8192"):
            decide(TrainingRequest("job", "smollm2", max_length=9000), base, data)


def test_a_table_knows_its_columns_in_order():
    assert read([{"b": 1}, {"a": 2, "b": 3}], "x") == Table("x", ("b", "a"), ({"b": 1}, {"a": 2, "b": 3}))
