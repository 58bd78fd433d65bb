int fall(int a) {
  int r = 0;
  switch (a) {
    case 1:
      r += 1;
      /* fall through */
    case 2:
      r += 2;
      // FALLTHRU
    case 3:
      r += 3;
    case 4:
      r += 4;
#ifdef NEVER
      break;
#endif
      /*-fallthrough*/
    case 5: r += 5; /* falls
      through, it says here, in words that nothing knows */
    default:
      r = 7;
  }
  return r;
}
