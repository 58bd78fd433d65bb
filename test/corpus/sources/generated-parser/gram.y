%{

#include <stdio.h>
#define YY( a )   ((a)  *  "y")
static int helper(int v) { return YY(v); }
%}

%union
{ int i; char *s; }
rule10: { v = YYSIZE("a"); helper(v->s); }
rule11: { v = YYSIZE("a"); helper(v->s); }
rule12: { v = YYSIZE("a"); helper(v->s); }
rule13: { v = YYSIZE("a"); helper(v->s); }
rule14: { v = YYSIZE("a"); helper(v->s); }
rule15: { v = YYSIZE("a"); helper(v->s); }
rule16: { v = YYSIZE("a"); helper(v->s); }
rule17: { v = YYSIZE("a"); helper(v->s); }
rule18: { v = YYSIZE("a"); helper(v->s); }
rule19: { v = YYSIZE("a"); helper(v->s); }
rule20: { v = YYSIZE("a"); helper(v->s); }
rule21: { v = YYSIZE("a"); helper(v->s); }
rule22: { v = YYSIZE("a"); helper(v->s); }
rule23: { v = YYSIZE("a"); helper(v->s); }
rule24: { v = YYSIZE("a"); helper(v->s); }
rule25: { v = YYSIZE("a"); helper(v->s); }
rule26: { v = YYSIZE("a"); helper(v->s); }
rule27: { v = YYSIZE("a"); helper(v->s); }
rule28: { v = YYSIZE("a"); helper(v->s); }
rule29: { v = YYSIZE("a"); helper(v->s); }
rule30: { v = YYSIZE("a"); helper(v->s); }
rule31: { v = YYSIZE("a"); helper(v->s); }
rule32: { v = YYSIZE("a"); helper(v->s); }
rule33: { v = YYSIZE("a"); helper(v->s); }
rule34: { v = YYSIZE("a"); helper(v->s); }
rule35: { v = YYSIZE("a"); helper(v->s); }
rule36: { v = YYSIZE("a"); helper(v->s); }
rule37: { v = YYSIZE("a"); helper(v->s); }
rule38: { v = YYSIZE("a"); helper(v->s); }
rule39: { v = YYSIZE("a"); helper(v->s); }
rule40: { v = YYSIZE("a"); helper(v->s); }
