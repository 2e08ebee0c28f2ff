// What the library gives to others: to ONNX Runtime its operators, to runtime/kernels/library.py what it is and counts.

#include "sampling.h"
#include "kernels.h"
#include "operators.h"
#include "pool.h"
#include "self_check.h"
#include "usage.h"

#define MOEDGE_EXPORT extern "C" __attribute__((visibility("default")))

MOEDGE_EXPORT int moedge_layout() { return moedge::LAYOUT; }

// The instruction set that it runs on here; empty if MOEDGE_ISA names one that this CPU does not have.
MOEDGE_EXPORT const char* moedge_isa() {
  const moedge::Kernels* chosen = moedge::chosen_kernels();
  return chosen ? chosen->name : "";
}

// What is wrong with that instruction set on this CPU, or null.
MOEDGE_EXPORT const char* moedge_self_check() {
  const moedge::Kernels* chosen = moedge::chosen_kernels();
  return chosen ? moedge::check_kernels(*chosen) : "MOEDGE_ISA names an instruction set that this CPU does not have";
}

MOEDGE_EXPORT void moedge_own(uint64_t owner) { moedge::Usage::set_owner(owner); }

// From now on kernels that this thread makes share a pool of so many threads; 0: they use those of ONNX Runtime.
MOEDGE_EXPORT void moedge_lend(int threads, int awake_us) {
  using moedge::Pool;
  if (Pool::lent()) Pool::lent()->release();
  Pool::lend(threads > 0 ? Pool::make(threads, awake_us) : nullptr);
}

// In runs that this thread begins from now on no more than so many threads of a pool work.
MOEDGE_EXPORT void moedge_limit(int threads) { moedge::Pool::limit(threads); }

MOEDGE_EXPORT int64_t moedge_usage(uint64_t owner, int64_t layer, uint64_t* counts, int64_t room) {
  return moedge::Usage::read(owner, layer, counts, room);
}

MOEDGE_EXPORT int64_t moedge_choice_bytes(int64_t size) { return moedge::work_bytes(size); }

MOEDGE_EXPORT int64_t moedge_choose(const moedge::Choice* choice, float* logits, const int64_t* seen,
                                    const int32_t* counts) {
  return moedge::choose(*choice, logits, seen, counts);
}

MOEDGE_EXPORT moedge::ort::Status RegisterCustomOps(void* session_options, const moedge::ort::ApiBase* base) {
  using namespace moedge;
  const char* why = "this onnxruntime is older than 1.17 and lends no threads to moedge's operators";
  const ort::Api* api = base->get_api(ort::VERSION);
  if (api && chosen_kernels()) return register_operators(*api, session_options);
  if (api) why = moedge_self_check();
  // making a status stands at the same place since the first version
  const ort::Api* first = api ? api : base->get_api(1);
  return first->at<ort::Status(int, const char*)>(ort::CREATE_STATUS)(ort::FAIL, why);
}
