"""Fine-tuning: where a network can be cut, and training what lies above from kept activations."""
