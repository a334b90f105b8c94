"""A recipe: what a training run draws, hides and weighs. Data, which the loop never asks about.

objective = parse_recipe("bell:mean=0.4,std=0.15").main
t = objective.rates(stratified(32))                          # (32,) mask rates
mask = objective.masking.mask(t, torch.rand(32, 128), None)  # (32, 128) what is predicted
loss = (objective.weights(t)[rows] * ce).sum() / n_tokens
"""
