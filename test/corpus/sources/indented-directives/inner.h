 # define INNER 1
