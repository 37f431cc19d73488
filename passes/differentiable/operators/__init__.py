"""What each standard operator computes in torch, a family a file; a file offers ``operators()``, and imports torch only there."""
