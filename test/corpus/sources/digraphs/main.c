%:define DIGRAPH 1
int x = DIGRAPH + "s";
int arr<::> = <% 1, "t" %>;
