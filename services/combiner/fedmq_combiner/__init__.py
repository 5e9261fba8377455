"""A combiner: folds the updates of its clients into one partial per plan. `core` decides; `app` wires it."""
