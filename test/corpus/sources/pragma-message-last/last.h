int in_header;
#pragma message "at the end of a header"
