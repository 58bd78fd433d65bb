/* comment with ‮ bidi */
int x = "y‮"; // ⁦
