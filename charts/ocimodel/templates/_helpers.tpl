{{- define "ocimodel.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the node caches' DaemonSet, of the list of what they keep, and of the role for both. */}}
{{- define "ocimodel.nodeCache" -}}
{{- printf "%s-node-cache" (include "ocimodel.name" . | trunc 42 | trimSuffix "-") -}}
{{- end -}}

{{- define "ocimodel.labels" -}}
app.kubernetes.io/name: ocimodel-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ocimodel.selector" -}}
app.kubernetes.io/name: ocimodel-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ocimodel.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "ocimodel.name" .) -}}
{{- end -}}

{{- define "ocimodel.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ocimodel.configuration" -}}
pullerImage: {{ include "ocimodel.image" (dict "image" .Values.pullerImage "root" .) | quote }}
pullerImagePullPolicy: {{ .Values.pullerImage.pullPolicy }}
pullerResources:
  {{- toYaml .Values.pullerResources | nindent 2 }}
{{- with .Values.pullerEnv }}
pullerEnv:
  {{- toYaml . | nindent 2 }}
{{- end }}
concurrency: {{ .Values.concurrency }}
collectAfterSeconds: {{ .Values.collectAfterSeconds }}
{{- if .Values.nodeCache.enabled }}
nodeCache:
  namespace: {{ .Release.Namespace }}
  daemonSet: {{ include "ocimodel.nodeCache" . }}
  inUse: {{ include "ocimodel.nodeCache" . }}
  namespaces:
    {{- range .Values.nodeCache.namespaces }}
    - {{ .name }}
    {{- end }}
{{- end }}
namespaces:
  {{- toYaml (eq .Values.scope "namespaced" | ternary .Values.namespaces list) | nindent 2 }}
runtimes:
  {{- toYaml .Values.runtimes | nindent 2 }}
{{- end -}}

{{/* What the operator does in the namespaces of Models, and no more. No rule names Secrets. */}}
{{- define "ocimodel.rules" -}}
- apiGroups: [ocimodel.dev]
  resources: [models]
  verbs: [list, watch]
- apiGroups: [ocimodel.dev]
  resources: [models/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [create, delete, get, list, patch, watch]
# By which pods claim devices of DRA drivers.
- apiGroups: [resource.k8s.io]
  resources: [resourceclaimtemplates]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [""]
  resources: [services]
  verbs: [create, get, list, patch, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [create, delete, get, list, watch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [create, delete, get, list, patch, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}
