"""The commands of ``rl-tuner``, a module each; heavy imports wait until a command runs."""
