#!/usr/bin/env bash
# recorded-build.sh COMPILER ARGUMENTS...: one call of a build, plainly or through hpcc, whose words for stderr are kept by what the call makes.
# BUILD_HPCC: the program to call through, empty for a plain call. BUILD_STDERR: a folder for stderr. BUILD_FLAGS: a folder of files
# of flags for plain calls, one a line, by working directory and output, else source.
source= output=
for ((at = 1; at <= $#; at++)); do
  case ${!at} in
    -o) next=$((at + 1)) output=${!next} at=$next ;;
    -MF | -MT | -MQ | -include) at=$((at + 1)) ;;
    *.c | *.cc | *.cpp | *.S | *.s) source=${!at} ;;
  esac
done
stderr=$PWD/${output:-$source}
exec 2>"$BUILD_STDERR/${stderr//\//%}"
if [[ -n $BUILD_HPCC ]]; then exec "$BUILD_HPCC" "$@"; fi
flags=()
for wanted in "$PWD/$output" "$PWD/$source"; do
  file=$BUILD_FLAGS/${wanted//\//%}
  [[ -f $file ]] && mapfile -t flags <"$file" && break
done
exec "$@" "${flags[@]}"
