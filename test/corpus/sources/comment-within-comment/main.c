/* outer /* inner */
int x = "y";
