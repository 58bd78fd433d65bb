namespace deep { namespace er { class Thing { private: int hidden; public: void method(int, char) const; }; } }
using deep::er::Thing;
void errors(const Thing &t, Thing *p) {
  t.hidden = 3;
  t.methd(1);
  p.method("a", 2);
  Thing u(1, 2);
  throw undefined_exception();
}
struct Abstract { virtual void a() = 0; };
Abstract instance;
void overload(int); void overload(const char *, int = 3);
void calls() { overload(1, 2); overload(); }
