// Lets torch's CPU build run autograd over fake tensors that say they are on CUDA: its engine asks the CUDA hooks if
// there is such an accelerator, and the device guard for the current stream. Nothing here runs anything.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <new>

namespace {

constexpr auto CUDA = c10::DeviceType::CUDA;

struct Hooks final : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
};
static_assert(sizeof(Hooks) == sizeof(at::CUDAHooksInterface), "hooks without data can take each other's place");

struct Guard final : c10::impl::NoOpDeviceGuardImpl<CUDA> {
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, {CUDA, 0}); }
  c10::Device exchangeDevice(c10::Device) const override { return {CUDA, 0}; }
  c10::Device getDevice() const override { return {CUDA, 0}; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
};

}  // namespace

extern "C" void install() {
  static Guard guard;
  new (const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks())) Hooks();
  c10::impl::device_guard_impl_registry[static_cast<size_t>(CUDA)].store(&guard);
}
