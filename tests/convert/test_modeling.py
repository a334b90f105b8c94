"""A converted model gives the logits of its run, bit for bit, whichever code is asked."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.dynamic_module_utils import get_class_from_dynamic_module

import unmask
from convert.conftest import KINDS, same_without_unmask
from unmask.convert.modeling import UnmaskConfig, UnmaskForCausalLM, UnmaskForMaskedLM
from unmask.run import open_run


def auto(kind):
    return AutoModelForCausalLM if kind == "causal" else AutoModelForMaskedLM


def batch(run):
    """Ids (4, 24) with masks, and which are no padding."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (4, 24), generator=g)
    x = x.masked_fill(torch.rand(x.shape, generator=g) < 0.4, run.tokenizer.mask_id)
    x[0] = run.tokenizer.mask_id
    return x, torch.arange(24) < torch.tensor([24, 17, 3, 24])[:, None]


@torch.no_grad()
def own_logits(run, x, valid):
    """Of the run's network, at the places of the tokens that are predicted."""
    return run.model.head(run.model(x, valid))


@torch.no_grad()
def their_logits(model, run, x, valid):
    """The same of a model of `transformers`."""
    if not run.model.causal:
        return model(input_ids=x, attention_mask=None if valid is None else valid.long()).logits
    ids = F.pad(x, (1, 0), value=run.model.start)[:, :-1]
    return model(input_ids=ids).logits


def same(run, model):
    x, valid = batch(run)
    for mask in (None, valid):
        own, theirs = own_logits(run, x, mask), their_logits(model, run, x, mask)
        there = torch.ones_like(valid) if mask is None or run.model.causal else valid
        assert own.isfinite().any() and torch.equal(own[there], theirs[there])
        assert (theirs[..., run.tokenizer.mask_id] == -math.inf).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_the_run_s_by_the_installed_code_and_by_the_code_that_travels(
    converted, kind
):
    folder, model = converted(kind)
    run = open_run(folder)
    unmask.register()
    same(run, auto(kind).from_pretrained(model))
    name = "UnmaskForCausalLM" if kind == "causal" else "UnmaskForMaskedLM"
    carried = get_class_from_dynamic_module(f"modeling_unmask.{name}", str(model))
    assert carried.__module__.startswith("transformers_modules")
    same(run, carried.from_pretrained(model))


@pytest.mark.slow
def test_without_unmask_transformers_alone_gives_the_same_and_the_card_s_example_runs(
    converted, tmp_path
):
    from safetensors.torch import save_file

    folders = {}
    for kind in KINDS:
        folder, model = converted(kind)
        run, folders[kind] = open_run(folder), str(model)
        x, _ = batch(run)
        ids = F.pad(x, (1, 0), value=run.model.start)[:, :-1] if run.model.causal else x
        given = {"x": ids.contiguous(), "logits": own_logits(run, x, None)}
        save_file(given, tmp_path / f"{kind}.safetensors")
    same_without_unmask(folders, tmp_path)


def test_the_averaged_weights_are_converted_where_the_run_keeps_them(converted):
    folder, model = converted("denoiser")
    checkpoint = open_run(folder).checkpoint
    found = UnmaskForMaskedLM.from_pretrained(model).model.head.weight
    assert torch.equal(found, checkpoint.tensors("ema")["head.weight"])
    assert not torch.equal(found, checkpoint.tensors("model")["head.weight"])


def test_the_loss_is_the_mean_cross_entropy_of_the_labels_and_can_be_learnt_from(converted):
    folder, model = converted("late")
    run, network = open_run(folder), UnmaskForMaskedLM.from_pretrained(model)
    x, _ = batch(run)
    labels = torch.full_like(x, -100)
    asked = (x == run.tokenizer.mask_id) & (torch.arange(24) % 2 == 0)
    labels[asked] = 65
    found = network(input_ids=x, labels=labels)
    logp = own_logits(run, x, None)[asked].log_softmax(-1)[:, 65]
    assert float(found.loss.detach()) == pytest.approx(-float(logp.mean()), rel=1e-5)
    found.loss.backward()
    grads = {name: weight.grad for name, weight in network.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in grads.values())
    plain = network(input_ids=x, labels=labels, return_dict=False)
    assert torch.equal(plain[0], found.loss) and torch.equal(plain[1], found.logits)
    labels[x != run.tokenizer.mask_id] = 65
    with pytest.raises(ValueError, match="at mask tokens alone"):
        network(input_ids=x, labels=labels)


def test_the_twin_s_loss_is_of_the_next_token_and_it_generates_as_the_sampler_would(converted):
    folder, model = converted("causal")
    run, network = open_run(folder), UnmaskForCausalLM.from_pretrained(model)
    start = run.model.start
    x = torch.tensor([[*b"the cat sat"], [*b"one big dog"]])
    ids = F.pad(x, (1, 0), value=start)
    logp = own_logits(run, x, None).log_softmax(-1).gather(2, x[..., None])
    loss = float(network(input_ids=ids, labels=ids).loss.detach())
    assert loss == pytest.approx(-float(logp.mean()), rel=1e-5)
    prompt = {"input_ids": ids[:, :4], "attention_mask": torch.ones_like(ids[:, :4])}
    found = network.generate(**prompt, max_new_tokens=5, do_sample=False, eos_token_id=None)
    row = ids[:, 1:4]
    for _ in range(5):
        grown = F.pad(row, (0, 1), value=0)
        row = torch.cat((row, own_logits(run, grown, None)[:, -1:].argmax(-1)), dim=1)
    assert found[:, 1:].tolist() == row.tolist()


@pytest.mark.slow
def test_the_trainer_of_transformers_trains_it(converted, tmp_path):
    """By the mean of the whole batch, however many parts it is in."""
    from transformers import Trainer, TrainingArguments

    folder, model = converted("shift")
    x, _ = batch(open_run(folder))
    masks = x == open_run(folder).tokenizer.mask_id
    labels = torch.full_like(x, -100)
    for row, mask in enumerate(masks):
        labels[row, mask.nonzero()[:4, 0]] = 70  # as many in each row
    rows = [{"input_ids": a, "labels": b} for a, b in zip(x, labels, strict=True)]
    found = []
    for parts in (1, 4):
        network = UnmaskForMaskedLM.from_pretrained(model)
        arguments = TrainingArguments(
            str(tmp_path / str(parts)),
            per_device_train_batch_size=4 // parts,
            gradient_accumulation_steps=parts,
            max_steps=2,
            learning_rate=0.01,
            optim="sgd",
            max_grad_norm=0.0,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(network, arguments, train_dataset=rows)
        trainer.train()
        found.append(network.model.head.weight.detach())
    before = UnmaskForMaskedLM.from_pretrained(model).model.head.weight
    assert not torch.equal(before, found[0])
    torch.testing.assert_close(found[0], found[1])


def test_what_a_network_cannot_do_is_told(converted):
    _, model = converted("denoiser")
    network = UnmaskForMaskedLM.from_pretrained(model)
    x = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="right end"):
        network(x, attention_mask=torch.tensor([[0, 1, 1, 1]]))
    with pytest.raises(ValueError, match=re.escape("must be (B, L)")):
        network(x, attention_mask=torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match="no UnmaskForCausalLM"):
        UnmaskForCausalLM.from_pretrained(model)
    with pytest.raises(Exception, match="divisible"):
        UnmaskForMaskedLM(UnmaskConfig(network={"width": 30, "heads": 4}))


def test_a_file_without_all_weights_is_refused(converted, tmp_path):
    from safetensors.torch import load_file, save_file

    _, model = converted("shift")
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((model / file).read_bytes())
    weights = load_file(model / "model.safetensors")
    del weights["model.blocks.1.mlp.up.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks some"):
        UnmaskForMaskedLM.from_pretrained(tmp_path)


def test_in_bfloat16_positions_stay_exact_and_logits_close(converted):
    folder, model = converted("shift")
    run, (x, _) = open_run(folder), batch(open_run(folder))
    network = UnmaskForMaskedLM.from_pretrained(model, dtype=torch.bfloat16)
    assert torch.equal(network.model.rotary.cos, run.model.rotary.cos)
    found, own = their_logits(network, run, x, None).float(), own_logits(run, x, None)
    finite = own.isfinite()
    torch.testing.assert_close(found[finite], own[finite], atol=0.05, rtol=0.05)


def test_a_new_network_has_the_initial_weights_of_seed_0():
    state = torch.get_rng_state()
    network = UnmaskForMaskedLM(UnmaskConfig(network={"layers": 1, "width": 16, "heads": 2}))
    assert torch.equal(state, torch.get_rng_state())
    assert float(network.model.embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not network.model.head.weight.any()
