#define HASH #
HASH define LATER 1
int later = LATER;
# /* null directive */
#
int x = "y";
