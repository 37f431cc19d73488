"""Control flow: branches and loops whose course is known, and what they compute for nobody or again and again."""
