// A motor swings a pendulum up, as a policy of integers that was trained on Pendulum-v1 has it.
//
//     policy = EvolvingConnectivityPolicy(network=IntegerRSNN(64, gain_in=0.3), random_state=0).fit("Pendulum-v1")
//     open("policy.h", "w").write(policy.to_c("policy", real="float"))
//
// Put policy.h beside this file. A potentiometer without stops on A0 tells the angle, 0 upright, anticlockwise; a motor
// driver turns anticlockwise by the duty of pin 5, clockwise by that of pin 6. For boards with an ARM core (Uno R4, Zero,
// Nano 33): on AVR boards the policy's tables would be copied to RAM.
#define POLICY_FLOAT
#include "policy.h"

const unsigned long STEP = 50000;  // microseconds, the environment's
const int FORTH = 5, BACK = 6;

policy_state state;
float before;
unsigned long due;

float angle() { return analogRead(A0) * (TWO_PI / 1024); }

void setup() {
    pinMode(FORTH, OUTPUT);
    pinMode(BACK, OUTPUT);
    policy_reset(&state);
    before = angle();
    due = micros();
}

void loop() {
    if ((long)(micros() - due) < 0) return;
    due += STEP;
    const float now = angle();
    const float turned = atan2(sin(now - before), cos(now - before));  // the shorter way round
    before = now;
    const float speed = constrain(turned / 0.05f, -8.0f, 8.0f);  // radians a second, in the environment's bounds
    const float observation[POLICY_OBSERVATIONS] = {(float)cos(now), (float)sin(now), speed};
    policy_number torque[POLICY_ACTIONS];  // in [-2, 2]
    policy_act(&state, observation, torque);
    const int duty = (int)(127.5f * torque[0]);
    analogWrite(FORTH, duty > 0 ? duty : 0);
    analogWrite(BACK, duty < 0 ? -duty : 0);
}
