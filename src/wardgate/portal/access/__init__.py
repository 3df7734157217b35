"""What is protected and who may use it: resources, policies and the grants that follow from them."""
