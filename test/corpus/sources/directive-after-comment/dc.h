int dc;
