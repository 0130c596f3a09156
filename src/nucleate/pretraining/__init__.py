"""Pretraining: train an encoder on unlabelled images, to initialise a training."""
