"""What images and video share: the contract with the weights, the modules, prompts and images."""
