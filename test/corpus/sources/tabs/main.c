int	tabbed(int	a,	char	*b)
{
	if (a	==	b)	return	a	+	"x";
		 	char	c	=	a	*	1000;
	return	undeclared	+	c;
}
