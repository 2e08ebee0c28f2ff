// advice FILE: tells the system of a part of a mapped file that is in no memory, and waits until it is there.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "usage.h"

int main(int, char** words) {
  const int file = open(words[1], O_RDONLY);
  struct stat told;
  fstat(file, &told);
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size_t)told.st_size / page;
  auto* bytes = static_cast<unsigned char*>(mmap(nullptr, (size_t)told.st_size, PROT_READ, MAP_SHARED, file, 0));
  fdatasync(file);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  std::vector<unsigned char> there(pages);
  auto count = [&](size_t first, size_t last) {
    mincore(bytes, pages * page, there.data());
    return std::count_if(there.begin() + first, there.begin() + last, [](unsigned char c) { return c & 1; });
  };
  const size_t first = pages / 2, last = first + pages / 8;
  printf("%zd of %zu pages in memory before\n", count(first, last), last - first);
  if (count(first, last)) return 2;  // this system keeps them
  moedge::advise_needed(bytes + first * page + 100, (last - first) * page - 200);
  for (int tries = 0; tries < 200 && (size_t)count(first, last) < last - first; tries++)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  printf("%zd after\n", count(first, last));
  return (size_t)count(first, last) < last - first;
}
