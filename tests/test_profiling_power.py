"""Energy and heat on made-up machines: files of a Raspberry Pi, a Jetson, servers and laptops."""

import os

import pytest
from made_findings import write_tree

from moedge.runtime.profiling import energy as energy_module
from moedge.runtime.profiling.energy import EnergyMeter, joules_each, measure_idle
from moedge.runtime.profiling.heat import HeatWatch
from moedge.runtime.profiling.power_readers import find_reader, rails_watts

PMIC = """ 3V7_WL_SW_A current(0)=0.00195186A
   3V3_SYS_A current(1)=0.12687090A
   1V8_SYS_A current(2)=0.18835450A
  DDR_VDD2_A current(3)=0.02147046A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.17957110A
    0V8_SW_A current(6)=0.25959740A
  VDD_CORE_A current(7)=0.56259000A
   3V3_DAC_A current(17)=0.00000000A
   3V3_ADC_A current(18)=0.00000000A
   0V8_AON_A current(16)=0.00293040A
      HDMI_A current(22)=0.02551890A
 3V7_WL_SW_V volt(8)=3.70720000V
   3V3_SYS_V volt(9)=3.32580900V
   1V8_SYS_V volt(10)=1.80415000V
  DDR_VDD2_V volt(11)=1.11135400V
  DDR_VDDQ_V volt(12)=0.60329610V
   1V1_SYS_V volt(13)=1.11282000V
    0V8_SW_V volt(14)=0.80512740V
  VDD_CORE_V volt(15)=0.76798460V
   3V3_DAC_V volt(20)=3.32142500V
   3V3_ADC_V volt(21)=3.32966700V
   0V8_AON_V volt(19)=0.80175740V
      HDMI_V volt(23)=5.11746000V
     EXT5V_V volt(24)=5.14158000V
      BATT_V volt(25)=3.28033900V
"""
RAPL = "sys/class/powercap/intel-rapl:0"
JETSON = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
BATTERY = "sys/class/power_supply/BAT1"
ZONE = "sys/class/thermal/thermal_zone0"


def silent(words):
    return ""


def rapl(energy, zone=RAPL, name="package-0", most=262_143_328_850):
    return {f"{zone}/name": name, f"{zone}/energy_uj": energy, f"{zone}/max_energy_range_uj": most}


def test_rapl_counts_packages_and_goes_round(tmp_path):
    other = "sys/class/powercap/intel-rapl:1"
    core = rapl(77, f"{RAPL}:0", "core")
    root = write_tree(tmp_path, rapl(262_143_000_000) | rapl(1_000_000, other, "package-1") | core)
    write_tree(tmp_path, rapl(5, "sys/class/powercap/intel-rapl:2", "psys"))
    reader, why = find_reader(root, silent)
    assert (reader.source, why) == ("RAPL", "")
    assert reader.joules() == 0
    write_tree(tmp_path, rapl(262_143_328_000) | rapl(3_000_000, other, "package-1"))
    assert reader.joules() == pytest.approx(0.328 + 2)
    write_tree(tmp_path, rapl(1_000_000))  # it has gone round: 850 microjoules to its end, then a joule
    assert reader.joules() == pytest.approx(0.328 + 2 + 0.00085 + 1)
    (tmp_path / RAPL / "energy_uj").unlink()
    assert reader.joules() is None


def test_rapl_that_only_root_may_read_is_said(tmp_path):
    root = write_tree(tmp_path, rapl(5))
    locked = tmp_path / RAPL / "energy_uj"
    locked.chmod(0o000)
    if os.access(locked, os.R_OK):  # root may read all: what it reads as then is the same
        locked.write_text("")
    reader, why = find_reader(root, silent)
    assert reader is None
    assert "can only be read by root" in why


def test_a_jetson_tells_its_whole_module(tmp_path):
    labels = {f"{JETSON}/in{n}_label": name for n, name in ((1, "VDD_IN"), (2, "VDD_CPU_GPU_CV"), (3, "VDD_SOC"))}
    values = {f"{JETSON}/in1_input": 5072, f"{JETSON}/curr1_input": 984, f"{JETSON}/in2_input": 5000}
    reader, _ = find_reader(write_tree(tmp_path, labels | values), silent)
    assert reader.watts() == pytest.approx(4.990848)
    assert "VDD_IN" in reader.source


@pytest.mark.parametrize(("kind", "watts"), [("average", 42.5), ("input", 3.2)])
def test_hwmon_tells_microwatts(tmp_path, kind, watts):
    files = {"sys/class/hwmon/hwmon2/name": "amdgpu", f"sys/class/hwmon/hwmon2/power1_{kind}": int(watts * 1e6)}
    reader, _ = find_reader(write_tree(tmp_path, files), silent)
    assert reader.watts() == watts
    assert reader.source == f"hwmon sensor amdgpu, power1_{kind}"


def test_the_pmic_of_a_raspberry_pi_5(tmp_path):
    assert rails_watts(PMIC) == pytest.approx(1.76671, abs=1e-5)
    reader, _ = find_reader(tmp_path, lambda words: PMIC if words == "pmic_read_adc" else "")
    assert reader.watts() == rails_watts(PMIC)
    assert rails_watts('error=1 error_msg="Command not registered"') is None
    assert rails_watts("  EXT5V_V volt(24)=5.14158000V\n") is None


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({"status": "Discharging", "power_now": 8_532_000}, 8.532),
        ({"status": "Discharging", "current_now": -1_012_000, "voltage_now": 11_850_000}, 11.9922),
        ({"status": "Charging", "power_now": 8_532_000}, None),
        ({"status": "Discharging"}, None),
    ],
    ids=["power", "current and voltage", "charging", "silent"],
)
def test_a_battery_tells_while_it_is_drained(tmp_path, files, watts):
    root = write_tree(
        tmp_path, {f"{BATTERY}/type": "Battery"} | {f"{BATTERY}/{name}": text for name, text in files.items()}
    )
    reader, why = find_reader(root, silent)
    if watts is None:
        assert reader is None
        assert why == "no RAPL, power sensor, PMIC or discharging battery was found"
    else:
        assert reader.watts() == pytest.approx(watts)


class Counter:
    source = "a counter"

    def __init__(self):
        self.total = 100.0

    def joules(self):
        return self.total


class Sensor:
    source = "a sensor"

    def watts(self):
        return 6.0


def test_idle_is_subtracted_and_told_by_what_was_done(monkeypatch):
    counter, now = Counter(), [0.0]
    monkeypatch.setattr(energy_module.time, "monotonic", lambda: now[0])
    meter = EnergyMeter(counter, clock=lambda: now[0])
    with meter:
        now[0] += 2
        counter.total += 10
    assert (meter.joules, meter.seconds) == (10, 2)

    def work():
        now[0] += 1
        counter.total += 9
        return 4

    monkeypatch.setattr(energy_module, "EnergyMeter", lambda reader: EnergyMeter(reader, clock=lambda: now[0]))
    assert joules_each(counter, 5.0, work, 2.5) == pytest.approx((9 - 5) / 4)
    assert joules_each(counter, 50.0, work, 2.5) == 0


def test_a_sensor_is_asked_again_and_again():
    assert measure_idle(Sensor(), 0.01) == pytest.approx(6.0)


class Silence:
    source = "nothing"

    def watts(self):
        return None


def test_a_reader_that_falls_silent_is_no_measurement():
    assert measure_idle(Silence(), 0.0) is None
    assert joules_each(Silence(), 1.0, lambda: 1, 0.0) is None


def zone(celsius, clock=2_400_000, kind="passive"):
    files = {f"{ZONE}/type": "cpu-thermal", f"{ZONE}/temp": celsius * 1000}
    files |= {f"{ZONE}/trip_point_0_type": kind, f"{ZONE}/trip_point_0_temp": 80_000}
    return files | {f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": clock for n in range(4)}


def watch(root, ask=silent, **others):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    return HeatWatch(root, ask, clock=lambda: now[0], sleep=sleep, **others)


def test_heat_is_looked_at(tmp_path):
    moment = watch(write_tree(tmp_path, zone(51))).look("before")
    assert (moment.when, moment.mhz, moment.celsius, moment.throttled) == ("before", 2400, 51, "")
    hot = {"sys/class/hwmon/hwmon0/name": "k10temp", "sys/class/hwmon/hwmon0/temp1_input": 66_500}
    assert watch(write_tree(tmp_path, hot)).look("").celsius == 66.5
    assert watch(tmp_path / "nothing").look("").mhz is None


def test_the_firmware_says_it_first(tmp_path):
    said = {"measure_clock arm": "frequency(0)=1500345728\n", "get_throttled": "throttled=0x50005\n"}
    moment = watch(write_tree(tmp_path, zone(60)), lambda words: said.get(words, "")).look("now")
    assert moment.mhz == pytest.approx(1500.345728)
    assert moment.throttled == "under-voltage, throttled"
    said["get_throttled"] = "throttled=0x50000\n"  # since the machine was started, not now
    assert watch(tmp_path, lambda words: said.get(words, "")).look("now").throttled == ""


def test_what_was_throttled_is_measured_again_once_it_is_cool(tmp_path):
    root, runs = write_tree(tmp_path, zone(85)), []

    def measure():
        runs.append(1)
        return len(runs)

    heat = watch(root, longest_wait=10.0)
    cooled = heat.sleep

    def sleep(seconds):
        cooled(seconds)
        write_tree(tmp_path, zone(70))

    heat.sleep = sleep
    assert heat.steady("layers", measure) == 2
    assert heat.discarded == ["layers: cpu-thermal at 85 °C; measured again after 2 s"]
    assert heat.steady("attention", measure) == 3
    assert len(heat.discarded) == 1


def test_a_clock_that_fell_is_throttled(tmp_path):
    heat = watch(write_tree(tmp_path, zone(60)), longest_wait=5.0)
    heat.steady("first", lambda: 0)
    write_tree(tmp_path, zone(60, clock=2_000_000))
    heat.steady("second", lambda: 0)
    [said] = heat.discarded
    assert "second: 2000 MHz, 2400 before" in said
    assert "2000 MHz, 2400 before then too" in said


def test_waiting_has_an_end(tmp_path):
    heat = watch(write_tree(tmp_path, zone(95)), longest_wait=6.0)
    heat.steady("layers", lambda: 0)
    assert heat.longest_wait <= 0
    heat.steady("more", lambda: 0)
    assert len(heat.discarded) == 1


def test_a_critical_point_is_no_throttling(tmp_path):
    assert watch(write_tree(tmp_path, zone(85, kind="critical"))).look("").throttled == ""
