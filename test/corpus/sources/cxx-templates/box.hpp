#pragma once
template <typename T>
class Box {
 public:
  Box(int n) : order(n), first(n) {}
  void add(T t) { value = t; }
  template <typename U>
  U get() { return value; }

 private:
  T value;
  int first, order;
};
