"""AutoTrain's lines of 2023 and of today in the options of this package."""

from __future__ import annotations

from llm_magics.magics.autotrain_flags import translate

TUTORIAL = (
    "--train --project_name Llama-Chat --model TinyLlama/TinyLlama-1.1B --data_path . --use_peft --use_int4 "
    "--learning_rate 2e-4 --num_train_epochs 1 --trainer sft --merge_adapter"
)


def test_the_tutorials_own_line_becomes_ours():
    translated = translate(TUTORIAL.split())
    assert " ".join(translated.words) == (
        "--backend autotrain --name Llama-Chat --base TinyLlama/TinyLlama-1.1B . --quantization nf4 "
        "--lr 2e-4 --epochs 1 --trainer sft --merge-adapter"
    )
    assert ("--learning_rate", "--lr") in translated.changes and ("--use_peft", "always so") in translated.changes
    assert ("--data_path", "DATA") in translated.changes


def test_a_line_of_today_becomes_ours():
    line = "--train --project-name a --model m --data-path d --peft --quantization int4 --lr=1e-3 --epochs 2"
    assert " ".join(translate(line.split()).words) == (
        "--backend autotrain --name a --base m d --quantization nf4 --lr 1e-3 --epochs 2"
    )


def test_a_line_of_ours_is_left_alone():
    words = ("facts.csv", "--name", "facts", "--epochs", "3", "--merge-adapter", "--quantization", "nf4")
    assert translate(words).words == words and translate(words).changes == ()


def test_transformers_own_names_are_understood_on_a_line_of_ours_and_change_nothing_else():
    translated = translate(["facts.csv", "--learning-rate", "1e-3", "--num_train_epochs=2", "-q", "nf4"])
    assert translated.words == ("facts.csv", "--lr", "1e-3", "--epochs", "2", "-q", "nf4")
    assert translated.changes == (("--learning-rate", "--lr"), ("--num_train_epochs", "--epochs"))
    assert not translated.is_autotrains and translate(TUTORIAL.split()).is_autotrains


def test_a_line_of_autotrains_says_that_autotrain_trains_it():
    assert ("its line", "--backend autotrain") in translate(TUTORIAL.split()).changes


def test_a_back_end_that_was_named_stays():
    assert translate(["--train", "--project-name", "a", "--backend", "trl"]).words == (
        "--name",
        "a",
        "--backend",
        "trl",
    )


def test_the_command_in_front_of_the_flags_may_stay():
    assert translate(["autotrain", "llm", *TUTORIAL.split()]) == translate(TUTORIAL.split())
    assert translate(["llm", "--name", "a"]).words == ("llm", "--name", "a")


def test_flags_that_mean_nothing_here_are_left_out_and_said_so():
    translated = translate(
        ["--train", "--project-name", "a", "--padding", "right", "--logging_steps=1", "--lr", "1e-3"]
    )
    assert translated.words == ("--backend", "autotrain", "--name", "a", "--lr", "1e-3")
    assert ("--padding", "left out") in translated.changes and ("--logging_steps", "left out") in translated.changes


def test_the_column_with_the_texts_is_handed_on():
    translated = translate(["--train", "--project-name", "a", "--text_column", "body"])
    assert translated.words == ("--backend", "autotrain", "--name", "a", "--text-column", "body")
    assert ("--text_column", "--text-column") in translated.changes


def test_unsloth_is_a_switch_and_leaves_the_next_word():
    translated = translate(["--train", "--project-name", "a", "--unsloth", "facts.csv"])
    assert translated.words == ("--backend", "autotrain", "--name", "a", "facts.csv")
    assert ("--unsloth", "left out") in translated.changes
