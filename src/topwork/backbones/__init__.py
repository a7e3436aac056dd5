"""Image in, vector out: pretrained networks without their classification layers, frozen."""
